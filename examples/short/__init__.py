"""Short scripts, each with one thing to be read, run and pasted."""
