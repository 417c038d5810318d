"""Failures that end in one line: cause and fix."""

import contextlib
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

OUT_OF_MEMORY = re.compile("out of memory|can't allocate memory|not enough memory")  # in a RuntimeError
LONGEST = 1000  # characters of a message, which may quote a file that somebody else wrote


class DigitsumError(Exception):
    """A failure that its reader can fix: what was found, what was expected, what to do."""

    def __init__(self, message: str, details: list[str] | None = None) -> None:
        """Take the message, one line whatever it quotes, and lines of details to show below it."""
        super().__init__("\n  - ".join(printable(part) for part in [message, *(details or [])]))


def printable(text: str, longest: int = LONGEST) -> str:
    """Return `text` cut to `longest` characters, with escapes for line ends and all that a terminal would not show."""
    shown = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text[: longest + 1])
    return shown if len(shown) <= longest else shown[: longest - 3] + "..."


@contextlib.contextmanager
def one_line_errors(again: str = "run it again") -> Iterator[None]:
    """End the program in one line and with 1 at every failure that its user can fix; a bug keeps its traceback.

    Enter it before anything large is imported: Ctrl-C then ends imports, too. `again`: what to do after the fix.
    """
    _open_streams()
    message = f"error: interrupted. Nothing half-written was kept: {again}."
    _on_interrupt(message)
    try:
        yield
        if sys.stdout:
            sys.stdout.flush()  # a full disk is noticed here, and not at exit
    except DigitsumError as error:
        sys.exit(f"error: {error}")
    except BrokenPipeError:  # `| head` has read enough; nothing more shall be written, at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        sys.exit(
            printable(f"error: {error.strerror or error}{where}. Nothing half-written was kept: fix this and {again}.")
        )
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not OUT_OF_MEMORY.search(str(error)):
            raise
        sys.exit("error: out of memory. Close other programs, or lower the batch size, and run again.")
    except KeyboardInterrupt:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: os._exit(1))
        sys.exit(message)


def _open_streams() -> None:
    """Open closed streams, or the next file would get their number, with all that libraries print; print any letter."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115  # gets the lowest free number
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")


def _on_interrupt(message: str) -> None:
    """Make Ctrl-C and SIGTERM raise KeyboardInterrupt, so that temporary files are removed.

    During an import they end the program at once: C++ code would swallow the exception there, or abort.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        while frame:
            if frame.f_code.co_filename.startswith("<frozen importlib"):
                with contextlib.suppress(OSError):
                    os.write(2, f"{message}\n".encode())
                os._exit(1)
            frame = frame.f_back
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:  # as `nohup` or `&` of a script set it
            signal.signal(number, interrupt)
