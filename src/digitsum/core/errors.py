"""Failures that end in one line: cause and fix."""

import contextlib
import sys
from collections.abc import Iterator


class DigitsumError(Exception):
    """A failure that its reader can fix: what was found, what was expected, what to do."""


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Print a DigitsumError as one line and exit with 1."""
    try:
        yield
    except DigitsumError as error:
        sys.exit(f"error: {error}")
