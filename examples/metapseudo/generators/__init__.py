"""Frozen generators of images: the interface, one that is trained here, one that is published."""
