"""Physics-informed networks: a plain sum of the losses fails, a balanced one does not."""
