"""Short scripts to read, run and paste; each one shows one thing."""
