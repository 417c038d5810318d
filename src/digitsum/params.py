"""Typed, strict parameters: a stage sees only the keys of params.yaml that its dvc.yaml block declares.

`load_params("train")` reads both files and gives a frozen `Params`. What DVC does not know that a stage reads
cannot be read, so a changed value can never leave a stale result behind.
"""

import difflib
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from digitsum.errors import DigitsumError

# --- What a value may be -------------------------------------------------------------------------------------


def whole(at_least: int, at_most: float = math.inf) -> Any:
    """Declare a parameter that is a whole number."""
    limits = f"of at least {at_least}" if math.isinf(at_most) else f"from {at_least} to {at_most}"
    return _parameter(lambda value: type(value) is int and at_least <= value <= at_most, f"a whole number {limits}")


def number(
    at_least: float = -math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    at_most: float = math.inf,
) -> Any:
    """Declare a parameter that is a finite real number; a whole number will do."""
    limits = [
        f"{word} {limit:g}"
        for word, limit in [
            ("of at least", at_least),
            ("above", above),
            ("below", below),
            ("of at most", at_most),
        ]
        if math.isfinite(limit)
    ]
    return _parameter(
        # NaN fails every comparison, and infinity is not below infinity.
        lambda value: type(value) in (int, float) and at_least <= value <= at_most and above < value < below,
        " ".join(["a number", " and ".join(limits)]).strip(),
    )


def choice(*options: str) -> Any:
    """Declare a parameter that is one of the named options."""
    return _parameter(lambda value: value in options, "one of " + ", ".join(options))


def flag() -> Any:
    """Declare a parameter that is true or false."""
    return _parameter(lambda value: type(value) is bool, "true or false")


def name() -> Any:
    """Declare a parameter that names something; the code that owns the names checks it."""
    return _parameter(lambda value: isinstance(value, str) and value != "", "a name")


def sha256() -> Any:
    """Declare a parameter that is a SHA-256 digest in hexadecimal."""
    return _parameter(
        lambda value: isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None,
        "a SHA-256 digest: 64 digits 0-9 a-f",
    )


def _parameter(accepts: Callable[[Any], bool], expected: str) -> Any:
    return field(metadata={"accepts": accepts, "expected": expected})


# --- The parameters: what each does is said in params.yaml ---------------------------------------------------


class Group:
    """The parameters under one key of params.yaml. Those that the stage does not declare are not there."""

    if not TYPE_CHECKING:  # a type checker shall know the declared fields only

        def __getattr__(self, key):
            """Called for absent fields only: explain which line of dvc.yaml is missing."""
            if key not in {field.name for field in fields(type(self))}:
                raise AttributeError(f"{type(self).__name__} has no parameter {key!r}")
            parameter, stage = f"{type(self).__name__.lower()}.{key}", self.__dict__["stage"]
            raise DigitsumError(
                f"dvc.yaml: stage {stage} reads {parameter} without declaring it, so DVC would not rerun it "
                f'when the value changes; add "- {parameter}" under stages.{stage}.params'
            )


@dataclass(frozen=True, repr=False)
class Fetch(Group):
    """Parameters of the stage fetch."""

    timeout: float = number(above=0)
    train_images_sha256: str = sha256()
    train_labels_sha256: str = sha256()
    test_images_sha256: str = sha256()
    test_labels_sha256: str = sha256()


@dataclass(frozen=True, repr=False)
class Pair(Group):
    """Parameters of the stage pair."""

    seed: int = whole(at_least=0)
    validation_size: int = whole(at_least=0)
    training_size: int = whole(at_least=0)
    pairs_per_image: int = whole(at_least=1)


@dataclass(frozen=True, repr=False)
class Model(Group):
    """Parameters of the network."""

    fusion: str = name()
    trunk: str = name()
    deskew: bool = flag()


@dataclass(frozen=True, repr=False)
class Train(Group):
    """Parameters of the stage train."""

    device: str = choice("auto", "cpu", "cuda", "mps")
    numerics: str = choice("portable", "native")
    threads: int = whole(at_least=1)
    precision: str = choice("float32", "tf32", "bfloat16")
    compile: bool = flag()
    seed: int = whole(at_least=0)
    epochs: float = number(above=0)
    clean_epochs: int = whole(at_least=0)
    batch_size: int = whole(at_least=2)
    redraw_numbers: bool = flag()
    optimizer: str = choice("adamw", "adam", "sgd")
    schedule: str = choice("one_cycle", "constant")
    lr: float = number(above=0)
    weight_decay: float = number(at_least=0)
    softmax_first: bool = flag()
    label_smoothing: float = number(at_least=0, below=1)
    sum_loss_share: float = number(at_least=0, at_most=1)
    average_decay: float = number(at_least=0, below=1)
    rotation: float = number(at_least=0)
    scaling: float = number(at_least=0, below=1)
    shear: float = number(at_least=0)
    translation: float = number(at_least=0)


@dataclass(frozen=True, repr=False)
class Evaluate(Group):
    """Parameters of the stage evaluate."""

    calibration_bins: int = whole(at_least=2)
    mistakes_shown: int = whole(at_least=1, at_most=100)


@dataclass(frozen=True)
class Params:
    """All groups, each with the keys only that one stage declares."""

    fetch: Fetch
    pair: Pair
    model: Model
    train: Train
    evaluate: Evaluate


GROUPS: dict[str, type[Group]] = {
    "fetch": Fetch,
    "pair": Pair,
    "model": Model,
    "train": Train,
    "evaluate": Evaluate,
}


# --- Reading them --------------------------------------------------------------------------------------------


def load_params(stage: str, folder: Path = Path(), changes: Iterable[str] = ()) -> Params:
    """Give the parameters that `stage` declares in `folder`/dvc.yaml, with their values from params.yaml.

    `changes`, such as train.lr=0.1, come before what stands there, as those of `dvc exp run -S` do.
    Raises DigitsumError, one line naming file, key, value and what was expected, if params.yaml holds a key
    that nothing knows, or lacks or misstates one that the stage declares.
    """
    known = {f"{group}.{field.name}": field for group, cls in GROUPS.items() for field in fields(cls)}  # type: ignore[arg-type]
    declared = _declaration(stage, folder, "params")
    if "params.yaml" in declared_dependencies(stage, folder):  # a study's trial may read them all
        declared = list(known)
    values = leaves(read_yaml(folder / "params.yaml"))
    for change in changes:
        key, _, value = change.partition("=")
        values[key] = yaml.load(value, _Loader)
    for key in values:
        if key not in known:
            raise DigitsumError(
                f"params.yaml: {key} is not a parameter; remove it, or mend its spelling{_near(key, known)}"
            )
    groups = {group: object.__new__(cls) for group, cls in GROUPS.items()}
    for group in groups.values():
        group.__dict__["stage"] = stage
    for key in declared:
        if key not in known:
            raise DigitsumError(
                f"dvc.yaml: stages.{stage}.params names {key}, which is not a single parameter; "
                "declare each parameter by its full name, like train.lr"
            )
        expected = known[key].metadata["expected"]
        if key not in values:
            raise DigitsumError(f"params.yaml: {key} is missing, expected {expected}")
        if not known[key].metadata["accepts"](values[key]):
            raise DigitsumError(f"params.yaml: {key} is {_shown(values[key])}, expected {expected}")
        group_name, _, leaf = key.partition(".")
        groups[group_name].__dict__[leaf] = values[key]
    return Params(**groups)  # type: ignore[arg-type]


def declared_dependencies(stage: str, folder: Path = Path()) -> list[str]:
    """Give the files and folders under deps of `stage` in `folder`/dvc.yaml."""
    return _declaration(stage, folder, "deps")


def declared_path(stage: str, name: str) -> Path:
    """Give where ./dvc.yaml has `stage` read `name`: a study may declare ../../data/raw, the pipeline's own."""
    return next((Path(path) for path in declared_dependencies(stage) if path.endswith(name)), Path(name))


def declared_values(stage: str, folder: Path = Path()) -> dict[str, Any]:
    """Give the parameters that `stage` declares and what params.yaml now says of each, unchecked; None if absent."""
    values = leaves(read_yaml(folder / "params.yaml"))
    return {key: values.get(key) for key in _declaration(stage, folder, "params")}


def settings_digest(params: dict[str, Any]) -> str:
    """Give a short digest of all parameters of data and training, by full name, for runs to be known by.

    But for the seed and the numerics: these decide on bits and seconds, not on what is trained.
    """
    kept = {key: value for key, value in sorted(params.items()) if key.startswith(("pair.", "model.", "train."))}
    for key in ("train.seed", "train.numerics"):
        kept.pop(key, None)
    return hashlib.sha256(json.dumps(kept).encode()).hexdigest()[:12]


def check_choice(key: str, value: str, options: dict[str, Any]) -> None:
    """Raise DigitsumError unless `value`, read from the parameter `key`, is one of the names in `options`."""
    if value not in options:
        raise DigitsumError(f"params.yaml: {key} is {_shown(value)}, expected one of {', '.join(options)}")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # C is 10 times faster
    """PyYAML, but with 1e-05 as the number that YAML 1.2, DVC and people take it for, not as text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


DEEPEST = 20  # levels of nesting; the C library that builds the content would break down at some ten thousand


def read_yaml(path: Path) -> dict[str, Any]:
    """Give the table in a YAML file. Raises DigitsumError if it is missing, or is none."""
    try:
        text, depth = path.read_text(encoding="utf-8"), 0
        for event in yaml.parse(text, _Loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST or isinstance(event, yaml.AliasEvent):
                raise DigitsumError(
                    f"{path.name} is nested deeper than {DEEPEST} levels or has aliases; write it plainly"
                )
        content = yaml.load(text, _Loader)
    except FileNotFoundError:
        raise DigitsumError(f"{path.name} is not in this folder; run from the project's root, as DVC does") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no UTF-8, or a date that does not exist
        raise DigitsumError(f"{path.name} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise DigitsumError(f"{path.name} holds {_shown(content)}, expected keys with values")
    return content


def _declaration(stage: str, folder: Path, kind: str) -> list[str]:
    try:
        return list(read_yaml(folder / "dvc.yaml")["stages"][stage].get(kind, []))
    except (KeyError, TypeError, AttributeError):
        raise DigitsumError(f"dvc.yaml: there is no stage {stage}") from None


def leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten {"train": {"lr": 1}} to {"train.lr": 1}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _near(key: str, known: dict[str, Any]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    return f" (did you mean {near[0]}?)" if near else ""
