"""Files appear whole or not at all."""

import errno
import json
import os

import pytest

from digitsum.core.errors import DigitsumError
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


def test_an_error_that_quotes_what_others_wrote_is_one_short_line():
    line = str(DigitsumError("a\nidentity: \x1b[2J\u202e" + "x" * 10**6))
    assert line.startswith("a identity: �[2J�xxx")
    assert (line.isprintable(), len(line)) == (True, 2_000)
