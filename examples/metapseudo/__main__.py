"""``python -m examples.metapseudo``."""

from examples.metapseudo.cli import app

if __name__ == "__main__":
    app()
