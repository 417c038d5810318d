"""Git, asked by its command. Without NumPy: `make check` uses it, too."""

import subprocess

from digitsum.core.errors import DigitsumError


def git(*arguments: str, default: str | None = None) -> str:
    """Return what a git command prints; if it fails, `default`. Raises DigitsumError with git's words without one."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True)
    except OSError:
        raise DigitsumError("git cannot be run; install it, and see that it is on the PATH") from None
    if done.returncode and default is None:
        raise DigitsumError(f"git says: {' '.join(done.stderr.split())}")
    return default or "" if done.returncode else done.stdout.strip()
