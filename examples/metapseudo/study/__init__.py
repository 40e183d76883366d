"""Measures the example: variants × numbers of labels × seeds, resumable, with intervals."""
