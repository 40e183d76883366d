"""Runs ``python -m examples.pinn``."""

from examples.common.extra import needs_the_extra

with needs_the_extra():
    from examples.pinn.cli import app

if __name__ == "__main__":
    app(prog_name="python -m examples.pinn")
