"""What the examples have in common: data, trunk, checkpoints, the files of a run."""
