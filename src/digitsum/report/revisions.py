"""What a revision's last `dvc repro` was made of and what it gave: read from git and DVC, nothing is run.

A revision is what git or DVC has a name for: a branch, a tag, a commit, an experiment; or WORKSPACE, the files here.
"""

import csv
import hashlib
import io
import json
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.scm import resolve_rev
from numpy.typing import NDArray

from digitsum.core.errors import DigitsumError
from digitsum.core.params import leaves, read_yaml, settings_digest

WORKSPACE = "workspace"
PREDICTIONS, TEST_SPLIT = "data/predictions/test.safetensors", "data/paired/test.safetensors"
SEED_RUNS, SEED_FIGURES = "studies/seeds/seeds.csv", ("digit", "sum", "joint", "cpu_seconds")
CODE = ("src/", "stages/")


@dataclass(frozen=True)
class Answers:
    """A model's answers for P test pairs, all int64 [P]; truth and said have an entry for "digit" and one for "sum"."""

    image: NDArray[np.int64]
    number: NDArray[np.int64]
    truth: dict[str, NDArray[np.int64]]
    said: dict[str, NDArray[np.int64]]


@dataclass(frozen=True)
class Run:
    """What a revision's dvc.lock, metrics, plots and predictions say of its last run.

    revision: its commit, or WORKSPACE; name: how it is shown to people. params: every parameter that a stage read, by
    its full name. code: each file that a stage declares, with its digest and the stages. results: the digest of each
    output. metrics: each figure by its full name. confusion: counts by "digit" and "sum", int64 [C, C], a row for each
    true class. answers: None if DVC's cache and remotes lack the predictions. stale: what has been changed since,
    without another run. seeds: accuracies, 0-1, and CPU-seconds of runs with these parameters, by seed, and machines:
    what they ran on.
    """

    revision: str
    name: str
    params: dict[str, Any]
    code: dict[str, tuple[str, list[str]]]
    results: dict[str, str]
    metrics: dict[str, float]
    confusion: dict[str, NDArray[np.int64]]
    answers: Answers | None
    stale: list[str]
    seeds: dict[int, dict[str, float]]
    machines: str


def read_run(name: str) -> Run:
    """Read the run that revision `name` records.

    Raises DigitsumError if there is no such revision, or if it has no run of this pipeline.
    """
    files = Files(name)
    try:
        lock = files.yaml("dvc.lock")["stages"]
        metrics = {**json.loads(files.text("metrics/train.json")), **json.loads(files.text("metrics/evaluate.json"))}
        confusion = {answer: _confusion(files, answer) for answer in ("digit", "sum")}
    except (OSError, KeyError, json.JSONDecodeError) as error:
        raise DigitsumError(
            f"{name} has no run of this pipeline to compare ({error}); `dvc repro` there, and commit what it wrote"
        ) from None
    params: dict[str, Any] = {}
    code: dict[str, tuple[str, list[str]]] = {}
    results: dict[str, str] = {}
    for stage, entry in lock.items():
        params |= entry.get("params", {}).get("params.yaml", {})
        results |= {out["path"]: out.get("md5", "") for out in entry.get("outs", [])}
        for dependency in entry.get("deps", []):
            if dependency["path"].startswith(CODE):
                code.setdefault(dependency["path"], (dependency.get("md5", ""), []))[1].append(stage)
    try:
        rows = seed_runs(files.text(SEED_RUNS), params)
    except OSError:
        rows = []
    return Run(
        revision=files.revision,
        name=files.title,
        params=params,
        code=code,
        results=results,
        metrics=leaves(metrics),
        confusion=confusion,
        answers=read_answers(files),
        stale=list(_changed_since(files, params, code)),
        seeds={int(row["seed"]): {figure: float(row[figure]) for figure in SEED_FIGURES} for row in rows},
        machines="; ".join(sorted({row["machine"] for row in rows})),
    )


class Files:
    """The files of one revision, those that DVC keeps too, if its cache or a remote has them."""

    def __init__(self, name: str) -> None:
        """Find the revision `name`; raises DigitsumError if nothing is called so."""
        self.title = self.revision = name
        if name != WORKSPACE:
            try:
                with Repo() as repo:
                    self.revision = resolve_rev(repo.scm, name)
            except DvcException:
                raise DigitsumError(
                    f"{name} is no revision of git and no experiment of DVC here; `git branch --all` and "
                    "`dvc exp list --all-commits` show what there is, `git fetch` brings what others have"
                ) from None
            short = self.revision[:7]
            self.title = short if self.revision.startswith(name) else f"{name} ({short})"
        self.files = DVCFileSystem(rev=None if name == WORKSPACE else self.revision)

    def bytes(self, path: str) -> bytes:
        """Return a file's content. Raises OSError if it is not there."""
        content: bytes = self.files.read_bytes(path)
        return content

    def text(self, path: str) -> str:
        """Return a text file's content. Raises OSError if it is not there."""
        return self.bytes(path).decode()

    def yaml(self, path: str) -> dict[str, Any]:
        """Return a YAML file's content. Raises OSError if it is not there, DigitsumError if it is damaged."""
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, Path(path).name)
            copy.write_bytes(self.bytes(path))
            return read_yaml(copy)

    def tensors(self, path: str) -> dict[str, NDArray[Any]]:
        """Return a file of tensors as arrays. Raises OSError if it is not there, DigitsumError if it is damaged."""
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, Path(path).name)
            copy.write_bytes(self.bytes(path))
            from digitsum.data.tensors import (
                load_tensors,  # PyTorch takes seconds: not before there is something to read
            )

            return {name: tensor.numpy() for name, tensor in load_tensors(copy)[0].items()}


def read_answers(files: Files) -> Answers | None:
    """Return the answers that a revision's model gave, None if neither cache nor remotes have them."""
    try:
        kept = files.tensors(PREDICTIONS)
    except OSError:
        return None
    columns = {name: column.astype(np.int64) for name, column in kept.items() if column.ndim == 1}
    return Answers(
        image=columns["image_index"],
        number=columns["number"],
        truth={answer: columns[answer] for answer in ("digit", "sum")},
        said={answer: columns[f"predicted_{answer}"] for answer in ("digit", "sum")},
    )


def seed_runs(table: str, params: dict[str, Any]) -> list[dict[str, str]]:
    """Return the rows of the CSV table of seed runs that were measured with these parameters, by their full names."""
    mine = (settings_digest(params), params.get("train.numerics"))
    return [row for row in csv.DictReader(io.StringIO(table)) if (row.get("params"), row.get("numerics")) == mine]


def merge_base() -> str:
    """Return the commit where this branch left the default branch. Raises DigitsumError if git cannot tell."""
    default = _git("symbolic-ref", "--short", "refs/remotes/origin/HEAD")
    candidates = [default] if default else ["origin/main", "origin/master", "main", "master"]
    for branch in candidates:
        if base := _git("merge-base", "HEAD", branch):
            return base
    if _git("rev-parse", "--is-shallow-repository") == "true":
        raise DigitsumError("this clone is shallow and does not reach the base; run `git fetch --unshallow`")
    raise DigitsumError(f"no merge base with {' or '.join(candidates)}; name the base: digitsum report BASE")


def _confusion(files: Files, answer: str) -> NDArray[np.int64]:
    rows = list(csv.DictReader(io.StringIO(files.text(f"plots/confusion_{answer}.csv"))))
    classes = 1 + max(int(row["actual"]) for row in rows)
    counts = np.zeros((classes, classes), dtype=np.int64)
    for row in rows:
        counts[int(row["actual"]), int(row["predicted"])] = int(row["count"])
    return counts


def _changed_since(files: Files, params: dict[str, Any], code: dict[str, tuple[str, list[str]]]) -> Iterable[str]:
    now = leaves(files.yaml("params.yaml"))
    for key, value in params.items():
        if now.get(key) != value:
            yield f"{key} was {value} in that run and is {now.get(key, 'gone')}"
    for path, (digest, _) in code.items():
        try:
            same = hashlib.md5(files.bytes(path), usedforsecurity=False).hexdigest() == digest
        except OSError:
            same = False
        if not same:
            yield f"{path} is not what it was in that run"


def _git(*arguments: str) -> str:
    """Return what a git command prints, nothing if it fails."""
    return subprocess.run(["git", *arguments], capture_output=True, text=True).stdout.strip()
