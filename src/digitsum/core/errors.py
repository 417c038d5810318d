"""Failures that end in one line: cause and fix."""

import contextlib
import sys
from collections.abc import Iterator


class DigitsumError(Exception):
    """A failure that its reader can fix: what was found, what was expected, what to do."""

    def __init__(self, message: str) -> None:
        """Keep `message`, which may quote what other people wrote, as one line."""
        super().__init__(one_line(message, 2_000))


def one_line(text: str, longest: int) -> str:
    """Return `text` as one line of at most `longest` characters, its control characters made visible as �."""
    line = " ".join(text[: 2 * longest].split())
    line = "".join(character if character.isprintable() else "�" for character in line)
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Print a DigitsumError as one line and exit with 1."""
    try:
        yield
    except DigitsumError as error:
        sys.exit(f"error: {error}")
