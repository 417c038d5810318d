"""Tables in Markdown."""

from collections.abc import Iterable, Sequence
from typing import Any

from tabulate import tabulate


def markdown_table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a Markdown table; cells are shown as they are, not as numbers."""
    return tabulate(list(rows), headers, tablefmt="pipe", disable_numparse=True)
