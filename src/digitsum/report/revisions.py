"""What a revision's last `dvc repro` read and wrote, from git and DVC; nothing is run.

A revision is what git or DVC has a name for: a branch, a tag, a commit, an experiment; or WORKSPACE, the files here.
"""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import voluptuous as vol
from dvc.exceptions import DvcException
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from numpy.typing import NDArray

from digitsum.core.errors import DigitsumError
from digitsum.core.files import leaves
from digitsum.core.pipeline import VERSIONS
from digitsum.report.files import Files, folder_digest
from digitsum.report.settings import settings_digest
from digitsum.report.tables import shown

PREDICTIONS, TEST_SPLIT = "data/predictions/test.safetensors", "data/paired/test.safetensors"
SEED_RUNS, OLD_SEED_RUNS = "studies/seeds/seeds.csv", "studies/seeds.csv"  # the latter until November 2026
SEED_FIGURES = ("digit", "sum", "joint", "cpu_seconds")
PACKAGES = "versions"  # the group of the packages' versions among the parameters of a run
CODE = ("src/", "stages/")
CLASSES = {"digit": 10, "sum": 19}
LARGEST = {"image_index": 2**31, "number": 9, "digit": 9, "sum": 18, "predicted_digit": 9, "predicted_sum": 18}


def _number(value: Any) -> Any:
    if type(value) not in (int, float) or not abs(value) < 1e18:  # NaN, infinity and 10 ** 400 are not either
        raise vol.Invalid(f"expected a number, not {shown(value)}")
    return value


SHARE = vol.All(_number, vol.Range(0, 1))
METRICS = vol.Schema(
    {vol.Required("digit.accuracy"): SHARE, vol.Required("sum.accuracy"): SHARE, vol.Required("joint.accuracy"): SHARE}
).extend({str: _number})
SEED_RUN = vol.Schema(
    {
        "seed": vol.Coerce(int),
        **{name: vol.All(vol.Coerce(float), SHARE) for name in ("digit", "sum", "joint")},
        "cpu_seconds": vol.All(vol.Coerce(float), _number),
        "machine": str,
    },
    required=True,
    extra=vol.REMOVE_EXTRA,
).extend(  # what tables from before the temperatures do not have
    {vol.Optional(f"{answer}_calibration_error"): vol.All(vol.Coerce(float), SHARE) for answer in ("digit", "sum")}
)


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
        return _read_run(files)
    except (DigitsumError, DvcException, vol.Invalid, csv.Error, OSError, ValueError, RecursionError) as error:
        raise DigitsumError(
            f"{name} has no run of this pipeline to compare ({error}); `dvc repro` there, and commit what it "
            "wrote; `git checkout` brings back a damaged file"
        ) from None


def _read_run(files: Files) -> Run:
    files.yaml("dvc.yaml")
    stages = COMPILED_LOCKFILE_SCHEMA(files.yaml("dvc.lock")).get("stages", {})
    metrics = METRICS({**_metrics(files, "metrics/train.json"), **_metrics(files, "metrics/evaluate.json")})
    confusion = {answer: _confusion(files, answer) for answer in CLASSES}
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
    if any(PACKAGES in _params(entry) for entry in stages.values()):
        now |= {PACKAGES: files.yaml(VERSIONS)}
    runs = seed_runs(files.first_text(SEED_RUNS, OLD_SEED_RUNS), params)
    predictions = read_predictions(files)
    stale = dict.fromkeys(line for entry in stages.values() for line in _changed_since(entry, now, current))
    edited = [path for path, md5 in results.items() if path in files.read and files.read[path] != md5]
    return Run(
        revision=files.revision,
        name=files.title,
        params=params,
        code={file: (md5, declared[path]) for path, content in contents.items() for file, md5 in content.items()},
        results=results,
        metrics=metrics,
        confusion=confusion,
        predictions=predictions,
        stale=[*(f"{shown(path)} is not what that run wrote" for path in edited), *stale],
        seeds={row.pop("seed"): row for row in runs},
        machines="; ".join(sorted({row.pop("machine") for row in runs})),
    )


def read_predictions(files: Files) -> RecordedPredictions | None:
    """Return the predictions of a revision's model, None if they are not in DVC's cache or in a remote.

    Raises ValueError if they are not labels of pairs.
    """
    try:
        stored = files.tensors(PREDICTIONS)
    except (OSError, DvcException):
        return None
    columns = {name: column for name, column in stored.items() if name in LARGEST and column.dtype.kind in "iu"}
    sizes = {column.shape for column in columns.values()}
    if columns.keys() != LARGEST.keys() or len(sizes) != 1 or len(min(sizes)) != 1 or min(sizes) == (0,):
        raise ValueError(f"{PREDICTIONS} does not hold {', '.join(LARGEST)} as whole numbers, one for each pair")
    columns = {name: column.astype(np.int64) for name, column in columns.items()}
    wrong = [name for name, most in LARGEST.items() if ((columns[name] < 0) | (columns[name] > most)).any()]
    if wrong or (columns["sum"] != columns["digit"] + columns["number"]).any():
        raise ValueError(f"{PREDICTIONS}: {', '.join(wrong) or 'sum'} has values that no pair can have")
    return RecordedPredictions(
        image=columns["image_index"],
        number=columns["number"],
        actual={answer: columns[answer] for answer in CLASSES},
        predicted={answer: columns[f"predicted_{answer}"] for answer in CLASSES},
    )


def seed_runs(table: str, params: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of the CSV table of seed runs that were measured with these parameters, by their full names."""
    numerics = params.get("compute.numerics", params.get("train.numerics"))  # train.numerics: until November 2026
    mine = (settings_digest(params), numerics)
    rows = csv.DictReader(io.StringIO(table))
    return [SEED_RUN(row) for row in rows if (row.get("params"), row.get("numerics")) == mine]


def _metrics(files: Files, path: str) -> dict[str, Any]:
    try:
        return leaves(json.loads(files.text(path)))
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path}: {error}") from None


def _confusion(files: Files, answer: str) -> NDArray[np.int64]:
    path, classes = f"plots/confusion_{answer}.csv", CLASSES[answer]
    try:
        rows = [row for row in files.text(path).splitlines()[1:] if row.strip()] or ["no rows"]
        cells = np.loadtxt(rows, dtype=np.int64, delimiter=",", comments=None, ndmin=2)
        counts = np.zeros((classes, classes), dtype=np.int64)
        counts[cells[:, 0], cells[:, 1]] = cells[:, 2]
        if (cells < 0).any() or not 0 < counts.sum() < 2**31:
            raise ValueError("a count or class is out of range")
    except (ValueError, IndexError, OverflowError) as error:
        raise ValueError(f"{path}: {error}") from None
    return counts


def _params(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of a stage in dvc.lock, groups as tables, single ones by full names; and versions."""
    params = entry.get("params", {})
    return params.get("params.yaml", {}) | ({PACKAGES: params[VERSIONS]} if VERSIONS in params else {})


def _digests(entries: list[dict[str, Any]]) -> dict[str, str]:
    return {entry["path"]: entry.get("md5", "") for entry in entries}


def _changed_since(entry: dict[str, Any], params: dict[str, Any], digests: dict[str, str]) -> Iterator[str]:
    """Yield a line for each input of a stage that is not what its `entry` in dvc.lock records."""
    recorded, now = leaves(_params(entry)), leaves(params)
    groups = tuple(f"{name}." for name, value in _params(entry).items() if isinstance(value, dict) and name != PACKAGES)
    for key, value in recorded.items():
        if now.get(key) != value:
            yield f"{shown(key)} was {shown(value)} in that run and is {shown(now.get(key, 'gone'))}"
    yield from (f"{shown(key)} is new since that run" for key in now if key.startswith(groups) and key not in recorded)
    for path, digest in _digests(entry.get("deps", [])).items():
        if digests.get(path) != digest:
            yield f"{shown(path)} is not what it was in that run"
