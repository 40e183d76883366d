"""Semi-supervised learning with samples of a generator in place of unlabelled images."""
