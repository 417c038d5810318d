"""The history of a training run as files: curves for plots/, the latest epoch for metrics/."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from digitsum.core.files import write_csv, write_json
from digitsum.training.loss import Scores

DECIMALS = 4


class EpochResult(NamedTuple):
    """Scores of one epoch: of the training batches as they came, and of the averaged weights on validation."""

    epoch: int
    training: Scores
    validation: Scores


def write_history(curves: Path, latest: Path, history: Sequence[EpochResult], cost: dict[str, int]) -> None:
    """Write all epochs so far to the CSV file `curves`; the `cost` and the last epoch to the JSON file `latest`."""
    write_curves(curves, history)
    last: dict[str, dict[str, float]] = {"training": {}, "validation": {}}
    for score, split, value in _scores(history[-1]):
        last[split][score] = value
    write_json(latest, {**cost, "epoch": history[-1].epoch, **last})


def write_curves(path: Path, history: Sequence[EpochResult]) -> None:
    """Write a CSV table in long form, a row for each epoch, score and split: DVC draws one column against another."""
    write_csv(path, ["epoch", "score", "split", "value"], curve_rows(history))


def curve_rows(history: Sequence[EpochResult]) -> list[tuple[int, str, str, float]]:
    """Return a row for each epoch, score and split, values rounded to 4 decimals."""
    return [(result.epoch, *row) for result in history for row in _scores(result)]


def _scores(result: EpochResult) -> Iterator[tuple[str, str, float]]:
    for score in Scores._fields:
        for split in ("training", "validation"):
            yield score, split, round(getattr(getattr(result, split), score), DECIMALS)
