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


def print_epoch(result: EpochResult, epochs: float) -> None:
    """Print a line with the scores of one of `epochs` epochs."""
    validation = result.validation
    print(
        f"epoch {result.epoch:2}/{epochs:g}  loss {result.training.loss:.4f}  validation: loss {validation.loss:.4f}  "
        f"digit {validation.digit_accuracy:.2%}  sum {validation.sum_accuracy:.2%}",
        flush=True,
    )


def write_history(curves: Path, latest: Path, history: Sequence[EpochResult], cost: dict[str, int]) -> None:
    """Write all epochs so far to the CSV file `curves`; the `cost` and the last epoch to the JSON file `latest`."""
    # In long form, because DVC draws one column against another.
    write_csv(curves, ["epoch", "score", "split", "value"], curve_rows(history))
    last: dict[str, dict[str, float]] = {"training": {}, "validation": {}}
    for score, split, value in _scores(history[-1]):
        last[split][score] = value
    write_json(latest, {**cost, "epoch": history[-1].epoch, **last})


def curve_rows(history: Sequence[EpochResult]) -> list[tuple[int, str, str, float]]:
    """Return a row for each epoch, score and split, values rounded to 4 decimals."""
    return [(result.epoch, *row) for result in history for row in _scores(result)]


def _scores(result: EpochResult) -> Iterator[tuple[str, str, float]]:
    for score in Scores._fields:
        for split in ("training", "validation"):
            yield score, split, round(getattr(getattr(result, split), score), DECIMALS)
