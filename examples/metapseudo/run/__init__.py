"""The command line: runs in parallel processes, resumed where they stopped, tables and pictures."""
