"""Tables that scripts write into pages, between two marks of their name."""

import re


def fill(page: str, name: str, table: str) -> str:
    """The page with a table between its marks, `<!-- name -->` and `<!-- end of name -->`."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    inside = re.compile(f"{begin}.*?{end}", re.DOTALL)
    return inside.sub(lambda _: f"{begin}\n{table}\n{end}", page)
