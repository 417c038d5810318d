"""Failures that end in one line which names the cause and the cure."""

import sys
from collections.abc import Callable


class DigitsumError(Exception):
    """A failure that its reader can cure: what was found, what was expected, what to do."""


def run_stage(main: Callable[[], None]) -> None:
    """Run a stage's main; a foreseen failure prints one line and exits with 1, a bug keeps its traceback."""
    try:
        main()
    except DigitsumError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        reason = error.strerror or error
        sys.exit(f"error: {reason}{where}. Nothing half-written was kept: mend this and run `dvc repro` again.")
    except MemoryError:
        sys.exit("error: out of memory. Close other programs, or lower the batch size, and run again.")
    except KeyboardInterrupt:
        sys.exit("error: interrupted. `dvc repro` runs this stage again.")
