"""The history of a training run as files: curves for plots/, the latest epoch for metrics/."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from digitsum.artifacts import write_csv, write_json
from digitsum.training.loop import EpochResult, Scores

DECIMALS = 4


def write_history(curves: Path, latest: Path, history: Sequence[EpochResult], cost: dict[str, int]) -> None:
    """Write all epochs so far to the CSV file `curves`; the `cost` and the last one to the JSON file `latest`."""
    write_curves(curves, history)
    last: dict[str, dict[str, float]] = {"training": {}, "validation": {}}
    for score, split, value in _scores(history[-1]):
        last[split][score] = value
    write_json(latest, {**cost, "epoch": history[-1].epoch, **last})


def write_curves(path: Path, history: Sequence[EpochResult]) -> None:
    """Write a CSV table in long form, a row for each epoch, score and split: DVC draws one column against another."""
    rows = [(result.epoch, *row) for result in history for row in _scores(result)]
    write_csv(path, ["epoch", "score", "split", "value"], rows)


def _scores(result: EpochResult) -> Iterator[tuple[str, str, float]]:
    for score in Scores._fields:
        for split in ("training", "validation"):
            yield score, split, round(getattr(getattr(result, split), score), DECIMALS)
