"""What a revision's last `dvc repro` read and wrote, from git and DVC; nothing is run.

A revision is what git or DVC has a name for: a branch, a tag, a commit, an experiment; or WORKSPACE, the files here.
"""

import csv
import hashlib
import io
import json
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.scm import resolve_rev
from dvc_data.hashfile.tree import Tree
from numpy.typing import NDArray

from digitsum.core.errors import DigitsumError
from digitsum.core.files import leaves, parse_yaml
from digitsum.report.settings import settings_digest

WORKSPACE = "workspace"
PREDICTIONS, TEST_SPLIT = "data/predictions/test.safetensors", "data/paired/test.safetensors"
SEED_RUNS, OLD_SEED_RUNS = "studies/seeds/seeds.csv", "studies/seeds.csv"  # the latter until November 2026
SEED_FIGURES = ("digit", "sum", "joint", "cpu_seconds")
CODE = ("src/", "stages/")


@dataclass(frozen=True)
class RecordedPredictions:
    """Labels and predictions of P test pairs, all int64 [P]; actual and predicted have a "digit" and a "sum"."""

    image: NDArray[np.int64]
    number: NDArray[np.int64]
    actual: dict[str, NDArray[np.int64]]
    predicted: dict[str, NDArray[np.int64]]


@dataclass(frozen=True)
class Run:
    """What a revision's dvc.lock, metrics, plots and predictions record of its last run.

    Attributes:
        revision: its commit, or WORKSPACE
        name: how it is shown to people
        params: every parameter that a stage read, by its full name
        code: the MD5 of each file that a stage declares, itself or by its folder, and those stages
        results: the MD5 of each output
        metrics: each figure by its full name
        confusion: counts by "digit" and "sum", int64 [C, C], a row for each actual class
        predictions: None if they are not in DVC's cache or in a remote
        stale: what has changed since the run
        seeds: accuracies, 0-1, and CPU-seconds of runs with these parameters, by seed
        machines: what those runs ran on
    """

    revision: str
    name: str
    params: dict[str, Any]
    code: dict[str, tuple[str, list[str]]]
    results: dict[str, str]
    metrics: dict[str, float]
    confusion: dict[str, NDArray[np.int64]]
    predictions: RecordedPredictions | None
    stale: list[str]
    seeds: dict[int, dict[str, float]]
    machines: str


def read_run(name: str) -> Run:
    """Read the run that revision `name` records.

    Raises DigitsumError if there is no such revision, or if it has no run of this pipeline.
    """
    files = Files(name)
    try:
        stages = files.yaml("dvc.lock")["stages"]
        metrics = {**json.loads(files.text("metrics/train.json")), **json.loads(files.text("metrics/evaluate.json"))}
        confusion = {answer: _confusion(files, answer) for answer in ("digit", "sum")}
    except (OSError, KeyError, ValueError) as error:
        raise DigitsumError(
            f"{name} has no run of this pipeline to compare ({error}); `dvc repro` there, and commit what it wrote"
        ) from None
    params: dict[str, Any] = {}
    results: dict[str, str] = {}
    declared: dict[str, list[str]] = {}  # the stages of each file or folder of code
    for stage, entry in stages.items():
        params |= leaves(_params(entry))
        results |= _digests(entry.get("outs", []))
        for path in _digests(entry.get("deps", [])):
            if path.startswith(CODE):
                declared.setdefault(path, []).append(stage)
    contents = {path: files.digests(path) for path in declared}
    current = results | {path: folder_digest(path, content) for path, content in contents.items()}
    now = files.yaml("params.yaml")
    runs = seed_runs(files.seed_runs(), params)
    return Run(
        revision=files.revision,
        name=files.title,
        params=params,
        code={file: (md5, declared[path]) for path, content in contents.items() for file, md5 in content.items()},
        results=results,
        metrics=leaves(metrics),
        confusion=confusion,
        predictions=read_predictions(files),
        stale=list(dict.fromkeys(line for entry in stages.values() for line in _changed_since(entry, now, current))),
        seeds={int(row["seed"]): {figure: float(row[figure]) for figure in SEED_FIGURES} for row in runs},
        machines="; ".join(sorted({row["machine"] for row in runs})),
    )


class Files:
    """The files of one revision, including those that DVC keeps, if its cache or a remote has them."""

    def __init__(self, name: str) -> None:
        """Find the revision `name`. Raises DigitsumError if there is none."""
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
        return self.files.read_bytes(path)

    def text(self, path: str) -> str:
        """Return a text file's content. Raises OSError if it is not there."""
        return self.bytes(path).decode()

    def yaml(self, path: str) -> dict[str, Any]:
        """Return a YAML file's content. Raises OSError if it is not there, DigitsumError if it is damaged."""
        return parse_yaml(self.text(path), path)

    def tensors(self, path: str) -> dict[str, NDArray[Any]]:
        """Return a file of tensors as arrays. Raises OSError if it is not there, DigitsumError if it is damaged."""
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, Path(path).name)
            copy.write_bytes(self.bytes(path))
            from digitsum.data.tensors import load_tensors  # imports PyTorch, which takes seconds: only to read a file

            return {name: tensor.numpy() for name, tensor in load_tensors(copy)[0].items()}

    def digests(self, path: str) -> dict[str, str]:
        """Return the MD5 of a file, or of each file in a folder but those that .dvcignore names; none if it is gone."""
        return {
            file: hashlib.md5(self.bytes(file), usedforsecurity=False).hexdigest()
            for file in sorted(self.files.find(path))
        }

    def seed_runs(self) -> str:
        """Return the CSV table of runs with several seeds, nothing if there is none."""
        return next((self.text(path) for path in (SEED_RUNS, OLD_SEED_RUNS) if self.files.exists(path)), "")


def folder_digest(path: str, content: dict[str, str]) -> str:
    """Return the digest that dvc.lock has for the file or folder `path`, from the MD5 of each file in it, by path."""
    if path in content:
        return content[path]
    tree = Tree.from_list([{"md5": md5, "relpath": file.removeprefix(f"{path}/")} for file, md5 in content.items()])
    tree.digest()
    return str(tree.oid)


def read_predictions(files: Files) -> RecordedPredictions | None:
    """Return the predictions of a revision's model, None if they are not in DVC's cache or in a remote."""
    try:
        stored = files.tensors(PREDICTIONS)
    except OSError:
        return None
    columns = {name: column.astype(np.int64) for name, column in stored.items() if column.ndim == 1}
    return RecordedPredictions(
        image=columns["image_index"],
        number=columns["number"],
        actual={answer: columns[answer] for answer in ("digit", "sum")},
        predicted={answer: columns[f"predicted_{answer}"] for answer in ("digit", "sum")},
    )


def seed_runs(table: str, params: dict[str, Any]) -> list[dict[str, str]]:
    """Return the rows of the CSV table of seed runs that were measured with these parameters, by their full names."""
    numerics = params.get("compute.numerics", params.get("train.numerics"))  # train.numerics: until November 2026
    mine = (settings_digest(params), numerics)
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
    table = io.StringIO(files.text(f"plots/confusion_{answer}.csv"))
    actual, predicted, count = np.loadtxt(table, dtype=np.int64, delimiter=",", skiprows=1, unpack=True)
    counts = np.zeros((actual.max() + 1, actual.max() + 1), dtype=np.int64)
    counts[actual, predicted] = count
    return counts


def _params(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of a stage in dvc.lock: groups as tables, single ones by their full names."""
    return entry.get("params", {}).get("params.yaml", {})


def _digests(entries: list[dict[str, Any]]) -> dict[str, str]:
    return {entry["path"]: entry.get("md5", "") for entry in entries}


def _changed_since(entry: dict[str, Any], params: dict[str, Any], digests: dict[str, str]) -> Iterator[str]:
    """Yield a line for each input of a stage that is not what its `entry` in dvc.lock records."""
    recorded, now = leaves(_params(entry)), leaves(params)
    groups = tuple(f"{name}." for name, value in _params(entry).items() if isinstance(value, dict))
    for key, value in recorded.items():
        if now.get(key) != value:
            yield f"{key} was {value} in that run and is {now.get(key, 'gone')}"
    yield from (f"{key} is new since that run" for key in now if key.startswith(groups) and key not in recorded)
    for path, digest in _digests(entry.get("deps", [])).items():
        if digests.get(path) != digest:
            yield f"{path} is not what it was in that run"


def _git(*arguments: str) -> str:
    """Return what a git command prints, nothing if it fails."""
    return subprocess.run(["git", *arguments], capture_output=True, text=True).stdout.strip()
