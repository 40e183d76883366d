"""Markdown tables."""

from collections.abc import Sequence


def table_lines(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, num_text: int = 1
) -> list[str]:
    """Return the lines of a Markdown table.

    Args:
        header: The titles of the columns.
        rows: The cells of each row.
        num_text: The number of text columns, from the left; the others are aligned right.
    """
    rule = ["---"] * num_text + ["---:"] * (len(header) - num_text)
    return [f"| {' | '.join(row)} |" for row in (header, rule, *rows)]
