"""A failure ends in one line, whatever happens on the way to it."""

import os
import subprocess
import sys

import pytest
from harness.project import ROOT

INTERRUPT = "os.kill(os.getpid(), signal.SIGINT)"


def run(folder, body, shell="", **environment):
    """Run `body` within one_line_errors, with the redirections `shell`; return the exit code and stderr."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    code = f"import atexit, os, signal, sys\nfrom digitsum.core.errors import *\nwith one_line_errors():\n{lines}"
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {shell}', sys.executable, code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{folder}", **environment},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "body",
    [
        INTERRUPT,
        "import swallows",
        f"try:\n    {INTERRUPT}\nfinally:\n    {INTERRUPT}",
        f"try:\n    {INTERRUPT}\nexcept BaseException:\n    {INTERRUPT}",
        f"atexit.register(lambda: {INTERRUPT})\n{INTERRUPT}",
        "os.kill(os.getpid(), signal.SIGTERM)",
    ],
    ids=["once", "in an import that swallows it", "while it is handled", "after it is swallowed", "at exit", "SIGTERM"],
)
def test_an_interrupt_ends_the_program_in_one_line(tmp_path, body):
    swallow = f"import os, signal\ntry:\n    {INTERRUPT}\nexcept BaseException:\n    pass\n"
    (tmp_path / "swallows.py").write_text(swallow)
    message = "error: interrupted. Nothing half-written was kept: run it again.\n"
    assert run(tmp_path, f"{body}\nprint('went on')") == (1, message)


@pytest.mark.skipif(os.name != "posix", reason="closes streams with a POSIX shell")
def test_streams_that_are_closed_full_or_of_few_letters_do_no_harm(tmp_path):
    written = "file = open('file', 'w')\nos.write(2, b'noise')\nprint('x', file=sys.stderr)"
    assert run(tmp_path, written, "2>&-")[0] == 0
    assert (tmp_path / "file").read_text() == ""
    assert run(tmp_path, "print('x')", ">&-") == (0, "")
    assert run(tmp_path, "print('\u2212')", PYTHONIOENCODING="ascii") == (0, "")
    full = "error: No space left on device. Nothing half-written was kept: fix this and run it again.\n"
    assert run(tmp_path, "print('x')", ">/dev/full") == (1, full)


@pytest.mark.parametrize("error", ["DigitsumError", "OSError"])
def test_no_text_that_an_error_quotes_makes_a_second_line(tmp_path, error):
    code, printed = run(tmp_path, rf"raise {error}('a\nidentity: 0\x1b[2J' + 9999 * 'x')")
    assert code == 1
    assert printed.startswith(r"error: a\nidentity: 0\x1b[2Jxxx")
    assert printed.count("\n") == 1
    assert len(printed) < 1100
