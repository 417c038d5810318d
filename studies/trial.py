"""Stage trial: train one variant of a study with each of its seeds, and score it on the test split.

A trial does what the stages pair, train and evaluate do, in memory. It depends on its variant and on the digest of its
probe, not on code: see probe.py. A study's params.yaml sets keys of the pipeline's groups, and in `variants` what each
variant changes of them. A variant may also have other `seeds`, or `keep` other PARTS, than the study.
"""

import copy
import dataclasses
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from digitsum.core.errors import DigitsumError
from digitsum.core.files import read_yaml, write_json
from digitsum.core.numerics import Compute
from digitsum.core.params import check_choice
from digitsum.core.runner import Stage
from digitsum.data.splits import Split
from digitsum.evaluation.metrics import confusion_counts, headline_metrics
from digitsum.evaluation.params import Evaluate
from digitsum.evaluation.predict import Predictions, correct_with_all_numbers, encode_images, predict
from digitsum.mnist.idx import RawMnist, expected_digests, read_raw
from digitsum.mnist.params import Mnist
from digitsum.model.network import Network
from digitsum.model.params import Model
from digitsum.pairing.pairs import make_splits
from digitsum.pairing.params import Pair
from digitsum.training.checkpoint import Checkpoint
from digitsum.training.devices import choose_device
from digitsum.training.history import EpochResult, curve_rows
from digitsum.training.loop import train_network
from digitsum.training.params import Train, TrainingParams
from digitsum.training.workers import Workers, start_workers

RAW, PROBES, PIPELINE_PARAMS = Path("../../data/raw"), Path("probes.json"), Path("../../params.yaml")
PARTS = ("sums_correct", "curves", "confusion_sum", "last_batch")
"""What a result may have for each seed besides the headline metrics, by the names that `keep` has in params.yaml."""


@dataclass(frozen=True)
class Variant:
    """The parameters of one variant: `seeds` to train it with, and which PARTS its results `keep`."""

    pair: Pair
    training: TrainingParams
    evaluate: Evaluate
    seeds: list[int]
    keep: list[str]


class Trained(NamedTuple):
    """A network, its predictions for the test split, and its entry in the results."""

    network: Network
    predictions: Predictions
    scores: dict[str, Any]


def main(stage: Stage, name: str) -> None:
    """Train and score with each seed, those apart that an interrupted run has done; write results/NAME.json, whole."""
    variant = read_variant(stage, name)
    key = stage.digest(name, read_probe(stage, name))
    folder = stage.checkpoints(key)
    checkpoint, partial = folder / "trial.safetensors", folder / f"{name}.json"
    result = read_partial(partial)
    splits, train = make_splits(read_mnist(stage), variant.pair), variant.training.train
    with start_workers(train.shards, choose_device(train.device)) as workers:
        for seed in variant.seeds:
            if str(seed) in result["seeds"]:
                continue
            continued = Checkpoint(checkpoint, f"{key}, seed {seed}")
            trained = train_and_score(variant, seed, splits, workers, continued)
            result["weights"] = sum(weights.numel() for weights in trained.network.parameters())
            result["seeds"][str(seed)] = trained.scores
            write_json(partial, result)
            scores = ((answer, trained.scores[answer]["accuracy"]) for answer in ("digit", "sum", "joint"))
            shown = "  ".join(f"{answer} {accuracy:.2%}" for answer, accuracy in scores)
            print(f"{name}, seed {seed}: {shown}", flush=True)
    write_json(Path(f"results/{name}.json"), result)


# --- One network -----------------------------------------------------------------------------------------------------


def train_and_score(
    variant: Variant,
    seed: int,
    splits: dict[str, Split],
    workers: Workers | None = None,
    checkpoint: Checkpoint | None = None,
) -> Trained:
    """Train the network of `variant` with `seed` and score it on the test split."""
    params = dataclasses.replace(variant.training, train=dataclasses.replace(variant.training.train, seed=seed))
    test, device = splits["test"], choose_device(params.train.device)
    network, history = train_network(
        params, splits["train"], splits["validation"], device, workers, checkpoint, print_loss
    )
    features = encode_images(network, test.images)
    predictions = predict(network, test, features)
    correct, both_correct = correct_with_all_numbers(network, test, features)
    all_numbers = {
        "sum_accuracy": correct.double().mean().item(),
        "joint_accuracy": both_correct.double().mean().item(),
    }
    scores: dict[str, Any] = headline_metrics(predictions, all_numbers, variant.evaluate.calibration_bins)
    parts: dict[str, Callable[[], Any]] = {
        "sums_correct": lambda: by_digit(correct, test.digits),
        "curves": lambda: curves(history),
        "confusion_sum": lambda: confusion_sum(predictions),
        "last_batch": lambda: last_batch(predictions, params.train.batch_size),
    }
    return Trained(network, predictions, scores | {part: parts[part]() for part in variant.keep})


def by_digit(correct: Tensor, digits: Tensor) -> list[list[float]]:
    """Return the part that is correct for each digit, a row, with each number, a column.

    correct: bool [10, M], a row a number. digits: uint8 [M].
    """
    return [[round(part, 4) for part in correct[:, digits == digit].double().mean(1).tolist()] for digit in range(10)]


def curves(history: list[EpochResult]) -> dict[str, dict[str, list[float]]]:
    """Return the curves of training by score and split, a value an epoch."""
    values: dict[str, dict[str, list[float]]] = {}
    for _, score, split, value in curve_rows(history):
        values.setdefault(score, {}).setdefault(split, []).append(value)
    return values


def confusion_sum(predictions: Predictions) -> list[list[int]]:
    """Return the counts of actual (rows) against predicted (columns) sums."""
    return confusion_counts(predictions, "sum").tolist()


def last_batch(predictions: Predictions, batch_size: int) -> dict[str, int]:
    """Return what is correct in the last batch of the test split, if it comes in batches of `batch_size`."""
    images = len(predictions.digits) % batch_size or batch_size
    return {
        "images": images,
        "digits_correct": int((predictions.predicted_digits == predictions.digits)[-images:].sum()),
        "sums_correct": int((predictions.predicted_sums == predictions.sums)[-images:].sum()),
    }


def print_loss(history: list[EpochResult]) -> None:
    """Print the training loss of the last epoch."""
    print(f"epoch {history[-1].epoch:2}  loss {history[-1].training.loss:.4f}", flush=True)


# --- Inputs ----------------------------------------------------------------------------------------------------------


def read_variant(stage: Stage, name: str) -> Variant:
    """Return the variant `name` of the study in this folder. Raises DigitsumError if a value is wrong."""
    changed = of_variant(stage, name)
    seeds, keep = read_seeds(changed, name), changed.declared.values["keep"]
    for part in keep:
        check_choice(f"keep of the variant {name}", part, PARTS)
    return Variant(changed.params(Pair), read_training(changed), changed.params(Evaluate), seeds, keep)


def of_variant(stage: Stage, name: str) -> Stage:
    """Return `stage` with the parameters of the variant `name`. Raises DigitsumError if there is no such variant."""
    changed = copy.copy(stage)
    changed.declared = dataclasses.replace(stage.declared, values=values_of(study_values(stage), name))
    return changed


def read_training(stage: Stage) -> TrainingParams:
    """Return the groups model, train and compute. Raises DigitsumError if a value is wrong."""
    return TrainingParams(stage.params(Model), stage.params(Train), stage.params(Compute))


def read_seeds(stage: Stage, name: str) -> list[int]:
    """Return the seeds to train the variant `name` with. Raises DigitsumError if they are not a list of numbers."""
    seeds = stage.declared.values["seeds"]
    if not (isinstance(seeds, list) and seeds and all(type(seed) is int and seed >= 0 for seed in seeds)):
        raise DigitsumError(f"params.yaml: seeds of the variant {name} are {seeds}, expected a list such as [0, 1, 2]")
    return seeds


def study_values(stage: Stage) -> dict[str, Any]:
    """Return the values of the study's params.yaml; a key that a group lacks there is that of the pipeline."""
    pipeline, study = read_yaml(PIPELINE_PARAMS), stage.declared.values
    return study | {group: pipeline[group] | study[group] for group in study.keys() & pipeline.keys()}


def values_of(values: dict[str, Any], name: str) -> dict[str, Any]:
    """Return `values` of params.yaml with the changes of the variant `name`, such as {"model.fusion": "film"}.

    Raises DigitsumError if there is no such variant, or if it changes something that is not there.
    """
    check_choice("a variant", name, values["variants"])
    changed = copy.deepcopy(values)
    for key, value in values["variants"][name].items():
        *group, leaf = key.split(".", 1)
        table = changed.get(group[0]) if group else changed
        if not (isinstance(table, dict) and leaf in table):
            raise DigitsumError(f"params.yaml: variants.{name} sets {key}, which is not a parameter; fix its spelling")
        table[leaf] = value
    return changed


def read_mnist(stage: Stage) -> RawMnist:
    """Return MNIST as the pipeline has fetched it. Raises DigitsumError if a file is missing or wrong."""
    try:
        return read_raw(RAW, expected_digests(stage.params(Mnist)))
    except DigitsumError as error:
        raise DigitsumError(f"{error} (in the project's root: cd ../..)") from None


def write_probes(stage: Stage, probe: Callable[[str, RawMnist], str]) -> None:
    """Write probes.json: what `probe` returns for each variant, and the digest of what it may depend on."""
    raw, digests = read_mnist(stage), {}
    for name in stage.declared.values["variants"]:
        digests[name] = probe(name, raw)
        print(f"{name}: {digests[name][:12]}", flush=True)
    write_json(PROBES, {"inputs": inputs_digest(stage), "variants": digests})


def read_probe(stage: Stage, name: str) -> str:
    """Return the digest of the variant's probe. Raises DigitsumError if the probe had other code or parameters.

    DVC runs the probe before the trials of a study, which take hours. What is edited in between would run in later
    trials, and DVC would take their results for those of what was probed.
    """
    try:
        probes = json.loads(PROBES.read_text())
        inputs, digest = probes["inputs"], str(probes["variants"][name])
    except (OSError, ValueError, KeyError):
        raise DigitsumError(f"{PROBES} has no probe of {name}; run `dvc repro`") from None
    if inputs != inputs_digest(stage):
        raise DigitsumError(f"code or parameters are not those of {PROBES}: they changed since; run `dvc repro` again")
    return digest


def inputs_digest(stage: Stage) -> str:
    """Return a SHA-256 of all code that the stages probe and trial may import, and of the study's parameters."""
    probed = {key: value for key, value in study_values(stage).items() if key not in ("seeds", "keep")}
    digest = hashlib.sha256(repr(probed).encode())
    for name in sorted(stage.declared.code):
        path = Path(name)
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(f"{file.as_posix()} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def read_partial(path: Path) -> dict[str, Any]:
    """Return what an interrupted trial has measured; nothing measured if there is none."""
    if path.exists():
        result: dict[str, Any] = json.loads(path.read_text())
        print(f"continuing from {path}: seeds {', '.join(result['seeds'])}")
        return result
    return {"weights": 0, "seeds": {}}
