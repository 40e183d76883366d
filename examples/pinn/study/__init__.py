"""The example measured: problems × methods × seeds, resumable, with intervals."""
