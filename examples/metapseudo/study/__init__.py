"""The example measured: variants × numbers of labels × seeds, resumable, with intervals."""
