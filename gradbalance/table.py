"""Format rows of text as a table, for a terminal or a notebook."""

from collections.abc import Sequence
from html import escape


def as_text(headline: str, rows: Sequence[Sequence[str]]) -> str:
    """The headline and the rows as text: first column left-aligned, the others right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [headline]
    for name, *cells in rows:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *padded]).rstrip())
    return "\n".join(lines)


def as_html(headline: str, rows: Sequence[Sequence[str]]) -> str:
    """The same as HTML, without colours, so that those of the notebook's theme apply."""
    lines: list[str] = []
    for row in rows:
        tag = "td" if lines else "th"
        sides = ["left"] + ["right"] * (len(row) - 1)
        cells = [
            f'<{tag} style="text-align: {side}; white-space: pre">{escape(cell)}</{tag}>'
            for side, cell in zip(sides, row, strict=True)
        ]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    table = "\n".join(['<table style="font-family: monospace">', *lines, "</table>"])
    return f"<p>{escape(headline)}</p>\n{table}"
