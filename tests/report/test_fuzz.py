"""Damaged files end `digitsum report` and `make check` in one line, or are read and noted: never in a traceback."""

import random
import re

import pytest

from digitsum.core.errors import DigitsumError
from digitsum.data.tensors import load_tensors, save_tensors
from digitsum.report.compare import compare
from digitsum.report.files import WORKSPACE
from digitsum.report.markdown import to_json, to_markdown
from digitsum.report.revisions import read_run
from tools import check

FILES = [
    "metrics/train.json",
    "metrics/evaluate.json",
    "plots/confusion_digit.csv",
    "plots/confusion_sum.csv",
    "studies/seeds/seeds.csv",
    "data/predictions/test.safetensors",
    "params.yaml",
    "dvc.yaml",
    "dvc.lock",
    "src/digitsum/training/loop.py",
    ".dvc/config",
]
VALUES = [
    "",
    "NaN",
    "1e999",
    "-1",
    "true",
    "null",
    "[]",
    "{}",
    "[" * 9_000,
    "9" * 400,
    "<!--",
    "\x1b[2J",
    "\x00",
    "'",
    ": ",
]
WORD = re.compile(rb"[\w.+-]+")


def mutate(content, draws):
    """Return `content` damaged by one of seven operators."""

    def place():
        return draws.randrange(len(content) + 1)

    def change_word(word):
        words = list(WORD.finditer(content)) or [re.match(b"", content)]
        chosen = draws.choice(words)
        return content[: chosen.start()] + word + content[chosen.end() :]

    lines, at = content.splitlines(keepends=True) or [b""], place()
    line = draws.randrange(len(lines))
    return draws.choice(
        [
            lambda: content[:at] + bytes([draws.randrange(256)]) + content[at + 1 :],
            lambda: content[:at],
            lambda: b"".join(lines[:line] + lines[line + 1 :]),
            lambda: b"".join([*lines[:line], draws.choice(lines), *lines[line:]]),
            lambda: change_word(draws.choice(VALUES).encode()),
            lambda: change_word(draws.choice(list(WORD.findall(content)) or [b""])),
            lambda: content[:at] + draws.choice([b"\xff\xfe", b"\r\n", b"\t", b"\xc3"]) + content[at:],
        ]
    )()


def try_mutant(folder, base, draws):
    """Damage a file, run both commands on it, and bring it back; return the file and the line or report that came."""
    path = folder / draws.choice(FILES)
    good = path.read_bytes()
    path.write_bytes(mutate(good, draws))
    ends = []
    try:
        for command in (lambda: compare(base, read_run(WORKSPACE)), check.main):
            try:
                comparison = command()
                ends.append(to_markdown(comparison, {}) + str(to_json(comparison)) if comparison else "")
            except DigitsumError as error:
                ends.append(str(error))
                assert len(ends[-1]) <= 2_000
                assert ends[-1].isprintable()
    finally:
        path.write_bytes(good)
    return path, ends


def test_a_damaged_file_gives_one_line_or_a_report(project, monkeypatch):
    """1,000 such mutants were tried by hand, half a second each."""
    monkeypatch.chdir(project.folder)
    base = read_run("HEAD")
    for seed in range(16):
        try_mutant(project.folder, base, random.Random(seed))


def edit_predictions(path, change):
    """Rewrite predictions with a right identity, as a stage with a mistake would."""
    tensors, config = load_tensors(path)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    change(tensors)
    path.unlink()  # it may be a link into DVC's cache
    save_tensors(path, tensors, config)


@pytest.mark.parametrize(
    ("change", "end"),
    [
        (lambda tensors: tensors.pop("number"), "does not hold image_index, number,"),
        (lambda tensors: tensors.update(number=tensors["number"][:-1].clone()), "whole numbers, one for each pair"),
        (lambda tensors: tensors.update(number=tensors["number"].float()), "as whole numbers"),
        (lambda tensors: tensors["predicted_sum"].fill_(19), "predicted_sum has values that no pair can have"),
        (lambda tensors: tensors["sum"].fill_(18), "sum has values that no pair can have"),
    ],
)
def test_predictions_that_are_not_labels_of_pairs_end_in_one_line(project, monkeypatch, change, end):
    monkeypatch.chdir(project.folder)
    edit_predictions(project.folder / "data/predictions/test.safetensors", change)
    with pytest.raises(DigitsumError, match=end):
        read_run(WORKSPACE)


def test_results_that_were_edited_by_hand_are_noted(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    path = project.folder / "metrics/evaluate.json"
    path.write_text(path.read_text().replace("0.", "0.1", 1))
    edit_predictions(
        project.folder / "data/predictions/test.safetensors",
        lambda tensors: tensors["predicted_digit"].copy_(9 - tensors["predicted_digit"]),
    )
    assert set(read_run(WORKSPACE).stale) == {
        "metrics/evaluate.json is not what that run wrote",
        "data/predictions/test.safetensors is not what that run wrote",
    }
