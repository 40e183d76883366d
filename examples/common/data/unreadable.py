"""Prints which image files could not be read and were left out."""

from rich.console import Console

from examples.common.data.image_set import ImageSet

_MAX_NAMED = 5


def name_unreadable(console: Console, *image_sets: ImageSet) -> None:
    """Print how many image files were left out, and the names of the first few.

    Args:
        console: Where to print.
        image_sets: The images.
    """
    unreadable = [name for image_set in image_sets for name in image_set.unreadable]
    if unreadable:
        console.print(f"{len(unreadable)} unreadable images were left out:")
        for line in unreadable[:_MAX_NAMED]:
            console.print(f"  {line}", markup=False, soft_wrap=True)
        if len(unreadable) > _MAX_NAMED:
            console.print(f"  and {len(unreadable) - _MAX_NAMED} more")
