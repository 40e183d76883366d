"""Frozen generators of images: their interface, the ones of this example, and a published one."""
