"""Files appear whole or not at all."""

import errno
import json
import os
import subprocess
import sys

import pytest

from digitsum.core.files import write_bytes, write_csv, write_json


def test_a_file_that_cannot_be_finished_leaves_the_old_one_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    write_bytes(path, b"old")

    def full_disk(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left") as caught:
        write_bytes(path, b"new")
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.json"]


def test_json_keeps_the_order_of_its_keys_and_refuses_nan(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1, "a": {"c": 0.5}})
    assert (tmp_path / "a.json").read_text() == '{\n  "b": 1,\n  "a": {\n    "c": 0.5\n  }\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"b": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text())["b"] == 1


def test_csv_has_unix_line_ends(tmp_path):
    write_csv(tmp_path / "new" / "a.csv", ["x", "y"], [(1, 2.5)])
    assert (tmp_path / "new" / "a.csv").read_bytes() == b"x,y\n1,2.5\n"


def test_two_processes_that_write_one_file_do_not_mix_their_bytes(tmp_path, monkeypatch):
    path, fsync = tmp_path / "report.md", os.fsync

    def another_writer(descriptor):
        monkeypatch.setattr(os, "fsync", fsync)
        code = f"import pathlib; from digitsum.core.files import *; write_bytes(pathlib.Path({str(path)!r}), b'two')"
        subprocess.run([sys.executable, "-c", code], check=True)
        assert path.read_bytes() == b"two"

    monkeypatch.setattr(os, "fsync", another_writer)
    write_bytes(path, b"the first")
    assert path.read_bytes() == b"the first"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="on Windows the system keeps the file of a running writer")
def test_what_a_killed_writer_left_is_removed_and_what_a_running_one_writes_is_not(tmp_path):
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    for process in (killed.pid, os.getppid()):
        (tmp_path / f".a.json.{process}.tmp").touch()
    write_bytes(tmp_path / "a.json", b"")
    assert {entry.name for entry in tmp_path.iterdir()} == {"a.json", f".a.json.{os.getppid()}.tmp"}
