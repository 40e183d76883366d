"""Runs ``python -m examples.mpssl``."""

from examples.common.extra import needs_the_extra

with needs_the_extra():
    from examples.mpssl.run.cli import app

if __name__ == "__main__":
    app(prog_name="python -m examples.mpssl")
