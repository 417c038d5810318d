"""Markdown: tables, and text from other branches so that it is shown as it is and can be nothing else."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from tabulate import tabulate

from digitsum.core.errors import printable

LONGEST = 80  # characters of a name or value; the most that a line of a report can take
PLAIN = re.compile(r"(?!www\.)[\w+-]+(?:[./][\w+-]+)*…?")  # what Markdown leaves as it is


def markdown_table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a Markdown table; cells are shown as they are, not as numbers."""
    return tabulate(list(rows), headers, tablefmt="pipe", disable_numparse=True)


def code(text: Any) -> str:
    """Return `text` as code in Markdown: one line, cut to LONGEST, without control characters, ` and |."""
    line = printable(str(text), LONGEST).replace("`", "'").replace("|", "¦")
    return f"`{line or ' '}`"


def shown(value: Any) -> str:
    """Return a name or value for Markdown: as it is if it is plain, as code if not."""
    text = str(value)
    return text if len(text) <= LONGEST and PLAIN.fullmatch(text) else code(text)
