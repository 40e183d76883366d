"""The command line: runs side by side, with checks before them, progress, tables and pictures."""
