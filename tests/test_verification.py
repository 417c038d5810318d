"""`digitsum verify` finds every damaged file that dvc.lock records, and `--repair` brings it back."""

import os
import re
from pathlib import Path

import pytest
import yaml

from digitsum import verification

FLIP, TRUNCATE, EMPTY, REMOVE = "flip a bit", "truncate", "empty", "remove"


def damage(path, how):
    """Damage a file in place, as a disk does: its time stays."""
    content, times = path.read_bytes(), path.stat()
    if how == REMOVE:
        path.unlink()
        return
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    path.chmod(0o644)
    path.write_bytes({FLIP: flipped, TRUNCATE: content[:middle], EMPTY: b""}[how])
    path.chmod(times.st_mode)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_one_damaged_file_of_any_kind_is_found(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    recorded = verification.recorded_files()
    assert verification.faults(recorded) == {}
    assert len(recorded) > 30
    for path in recorded:
        sound = path.read_bytes()
        for how in (FLIP, TRUNCATE, EMPTY, REMOVE):
            damage(path, how)
            assert path in verification.faults({path: recorded[path]}), (path, how)
            path.unlink(missing_ok=True)
            path.write_bytes(sound)


@pytest.mark.parametrize(
    ("place", "how"),
    [
        ("both", FLIP),
        *(pytest.param("both", how, marks=pytest.mark.slow) for how in (TRUNCATE, EMPTY, REMOVE)),
        *(pytest.param("cache", how, marks=pytest.mark.slow) for how in (FLIP, TRUNCATE, EMPTY, REMOVE)),
        *(pytest.param("workspace", how, marks=pytest.mark.slow) for how in (FLIP, TRUNCATE, EMPTY, REMOVE)),
    ],
)
def test_repair_brings_back_the_recorded_bytes(project, monkeypatch, place, how):
    monkeypatch.chdir(project.folder)
    expected, lock = project.outputs(), yaml.safe_load(Path("dvc.lock").read_text())
    recorded = verification.recorded_files()
    for path in recorded:
        if place == "both" or (".dvc" in path.parts) == (place == "cache"):
            damage(path, how)
    code, printed = project.run("digitsum", "verify")
    assert code == 1
    assert re.search(r"^error: .* files are damaged and \d+ missing; `digitsum verify --repair`", printed, re.M)
    project.succeed("digitsum", "verify", "--repair")
    assert project.outputs() == expected
    assert yaml.safe_load(Path("dvc.lock").read_text()) == lock


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content"),
    [("dvc.lock", ""), ("dvc.lock", "schema: '2.0'\nstages:\n  train:\n"), (".dvc/tmp/rwlock", "")],
)
def test_repair_restores_what_dvc_left_half_written(project, name, content):
    (project.folder / name).write_text(content)
    assert project.run("dvc", "repro")[0] != 0
    project.succeed("digitsum", "verify", "--repair")
    assert "up to date" in project.succeed("dvc", "status")
