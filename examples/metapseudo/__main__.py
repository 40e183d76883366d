"""Runs ``python -m examples.metapseudo``."""

from examples.common.extra import needs_the_extra

with needs_the_extra():
    from examples.metapseudo.run.cli import app

if __name__ == "__main__":
    app()
