"""Tables as Markdown has them."""

from collections.abc import Sequence


def table_lines(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, num_text: int = 1
) -> list[str]:
    """Return the lines of a table.

    Args:
        header: Of its columns.
        rows: Of cells.
        num_text: How many columns, from the left, are text; the others are aligned right.
    """
    rule = ["---"] * num_text + ["---:"] * (len(header) - num_text)
    return [f"| {' | '.join(row)} |" for row in (header, rule, *rows)]
