"""The command line: checks the runs, trains them, shows progress, writes tables and pictures."""
