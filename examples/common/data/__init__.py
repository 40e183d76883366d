"""Images with labels: procedural ones from a seed, or a folder or zip of image files."""
