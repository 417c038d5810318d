"""The history of a training run as files: curves for plots/, the latest epoch for metrics/."""

from collections.abc import Sequence
from pathlib import Path

from digitsum.artifacts import write_csv, write_json
from digitsum.training.loop import EpochResult

# One curve a row of the figure. The table is in long form, because DVC draws one column against another.
CURVES = ("training_loss", "validation_loss", "digit_accuracy", "sum_accuracy", "joint_accuracy")
DECIMALS = 4


def write_history(curves: Path, latest: Path, history: Sequence[EpochResult]) -> None:
    """Write all epochs so far to the CSV file `curves`, and the last one to the JSON file `latest`."""
    rows = [(result.epoch, curve, round(getattr(result, curve), DECIMALS)) for result in history for curve in CURVES]
    write_csv(curves, ["epoch", "curve", "value"], rows)
    result = history[-1]
    write_json(
        latest,
        {
            "epoch": result.epoch,
            "training": {"loss": round(result.training_loss, DECIMALS)},
            "validation": {
                "loss": round(result.validation_loss, DECIMALS),
                "digit_accuracy": round(result.digit_accuracy, DECIMALS),
                "sum_accuracy": round(result.sum_accuracy, DECIMALS),
                "joint_accuracy": round(result.joint_accuracy, DECIMALS),
            },
        },
    )
