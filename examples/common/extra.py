"""What the examples need beyond Python, and what to do where it is not installed."""

from collections.abc import Iterator
from contextlib import contextmanager

# By the names that they are imported by, those that they are installed by.
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
    """End the program with how to install what the body did not find.

    Raises:
        SystemExit: It did not find a package of the extra ``example``.
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
