"""MODEL_CARD.md, rendered from what is committed: `make card`, or `python -m studies.model_card.card`.

The text is in card.md.j2. Its sections are those of Mitchell et al., "Model Cards for Model Reporting", 1810.03993.
"""

import json
from pathlib import Path
from statistics import median
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from digitsum.core.errors import DigitsumError, one_line_errors
from digitsum.core.files import leaves, read_yaml, write_bytes
from digitsum.report.revisions import SEED_RUNS, seed_runs
from digitsum.report.significance import wilson
from digitsum.report.tables import markdown_table
from tools.tables import mean_and_deviation

CARD, FOLDER = Path("MODEL_CARD.md"), Path("studies/model_card")
MODEL = "models/digitsum.safetensors"
UNITS = {"shift": "pixels", "rotation": "degrees", "noise": "of the range", "blur": "pixels"}


def main() -> None:
    """Write the card."""
    write_bytes(CARD, card().encode())
    print(f"{CARD}: written")


def card() -> str:
    """Return the text of the card, from metrics/, dvc.lock, params.yaml and the studies, all as committed.

    Raises DigitsumError if fewer than two seeds were measured with these parameters.
    """
    measured, evaluated = read_json(FOLDER / "robustness.json"), read_json(Path("metrics/evaluate.json"))
    per_class = read_json(Path("metrics/per_class.json"))
    params = leaves(read_yaml(Path("params.yaml")))
    images = sum(row["support"] for row in per_class["digit"])
    runs = seed_runs(Path(SEED_RUNS).read_text(), params)
    if len(runs) < 2:
        raise DigitsumError(f"{SEED_RUNS} has {len(runs)} seeds with these parameters, not 2 or more; run `make seeds`")
    joint, seconds = ([float(row[column]) for row in runs] for column in ("joint", "cpu_seconds"))
    confidence = sum(one["answers"] * one["confidence"] for one in measured["reliability"]["digit"]) / images
    environment = Environment(
        loader=FileSystemLoader(FOLDER), undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    environment.filters["percent"] = percent
    return environment.get_template("card.md.j2").render(
        params=params,
        cost=read_json(Path("metrics/train.json")),
        model={"path": MODEL, "md5": md5(MODEL), "identity": measured["identity"]},
        evaluated=evaluated,
        images=images,
        seeds={
            "count": len(runs),
            "joint": mean_and_deviation(joint),
            "digit_calibration": mean_and_deviation([float(row["digit_calibration_error"]) for row in runs]),
            "sum_calibration": mean_and_deviation([float(row["sum_calibration_error"]) for row in runs]),
        },
        doubtful=measured["doubtful_labels"],
        confidence=confidence,
        seconds={"median": median(seconds), "least": min(seconds), "most": max(seconds)},
        machine=runs[0]["machine"],
        tables={
            "headline": headline(evaluated, images),
            "classes": classes(per_class),
            "disturbances": disturbances(measured["all_numbers_joint_accuracy"]),
        },
    )


def headline(evaluated: dict[str, Any], images: int) -> str:
    """Return the table of the accuracies on the test split."""
    rows = []
    for name in ("digit", "sum", "joint"):
        accuracy = evaluated[name]["accuracy"]
        rows.append([name, percent(accuracy), interval(round(accuracy * images), images)])
    rows.append(["joint, all ten numbers", percent(evaluated["all_numbers"]["joint_accuracy"]), ""])
    return markdown_table(["", "accuracy", "95 %"], rows)


def classes(per_class: dict[str, Any]) -> str:
    """Return the table of recall and precision of each digit and each sum."""
    rows = []
    for answer, of_answer in per_class.items():
        for row in of_answer:
            predicted = row["tp"] + row["fp"]
            recall = [percent(row["recall"]), interval(row["tp"], row["support"])] if row["support"] else ["", ""]
            precision = [percent(row["precision"]), interval(row["tp"], predicted)] if predicted else ["", ""]
            rows.append([f"{answer} {row['class']}", f"{row['support']:,}", *recall, *precision])
    return markdown_table(["", "images", "recall", "95 %", "precision", "95 %"], rows)


def disturbances(accuracies: dict[str, dict[str, float]]) -> str:
    """Return the table of the joint accuracy at each strength of each disturbance."""
    rows = []
    for name, of in accuracies.items():
        cells = [f"{strength}: {percent(accuracy)}" for strength, accuracy in of.items() if strength != "0"]
        rows.append([f"{name}, {UNITS[name]}", percent(of["0"]), *cells])
    return markdown_table(["", "none", *[""] * (len(rows[0]) - 2)], rows)


def interval(correct: int, total: int) -> str:
    """Return the 95 % interval of an accuracy, in percent."""
    low, high = wilson(correct, total)
    return f"{percent(low)} to {percent(high)}"


def percent(part: float) -> str:
    """Return a part of 1 in percent."""
    return f"{100 * part:.2f}"


def read_json(path: Path) -> dict[str, Any]:
    """Return the table in a JSON file."""
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def md5(path: str) -> str:
    """Return the MD5 that dvc.lock records for an output of train."""
    outs = read_yaml(Path("dvc.lock"))["stages"]["train"]["outs"]
    return next(str(out["md5"]) for out in outs if out["path"] == path)


if __name__ == "__main__":
    with one_line_errors():
        main()
