"""Labelled images: generated from a seed, or from a folder or zip of image files."""
