"""The packages that the examples need, and a message for the case that one is missing."""

from collections.abc import Iterator
from contextlib import contextmanager

# Maps the name in an import to the name of the package to install.
IN_EXTRA = {
    "torch": "torch",
    "numpy": "numpy",
    "scipy": "scipy",
    "matplotlib": "matplotlib",
    "kornia": "kornia",
    "PIL": "pillow",
    "rich": "rich",
    "sklearn": "scikit-learn",
    "typer": "typer",
}


@contextmanager
def needs_the_extra() -> Iterator[None]:
    """End the program with installation advice if an import in the body fails.

    Raises:
        SystemExit: A package of the extra ``example`` is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        name = str(error.name).partition(".")[0]
        if name not in IN_EXTRA:
            raise
        raise SystemExit(
            f"No module named {name!r}: the examples need the extra 'example'. In a clone "
            'of the repository:\n\n    pip install -e ".[example]"'
        ) from error
