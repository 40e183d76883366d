"""The study: problems × methods × seeds, resumable, with confidence intervals."""
