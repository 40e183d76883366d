"""Source and target: the built-in images, or the two halves of a folder or zip of images."""
