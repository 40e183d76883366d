"""Code that the examples share: data, trunk, checkpoints, the files of a run."""
