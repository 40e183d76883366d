"""Runs ``python -m examples.mpssl``."""

from examples.mpssl.cli import app

app(prog_name="python -m examples.mpssl")
