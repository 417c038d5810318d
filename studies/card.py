"""MODEL_CARD.md, written from what is committed: `make card`. The sections are those of Mitchell et al., 1810.03993."""

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from digitsum.core.files import write_bytes
from digitsum.core.params import leaves, read_yaml
from digitsum.report.revisions import SEED_RUNS, seed_runs
from digitsum.report.significance import wilson
from studies.measuring import errors_in_one_line

CARD = Path("MODEL_CARD.md")
MODEL = "models/digitsum.safetensors"


def main() -> None:
    """Write the card."""
    write_bytes(CARD, card().encode())
    print(f"{CARD}: written")


def card() -> str:
    """Return the card's text, from metrics/, dvc.lock, params.yaml and the studies, all as committed."""
    measured = _json("studies/model_card/metrics/robustness.json")
    evaluated, cost = _json("metrics/evaluate.json"), _json("metrics/train.json")
    per_class = _json("metrics/per_class.json")
    params = leaves(read_yaml(Path("params.yaml")))
    images = sum(row["support"] for row in per_class["digit"])
    runs = seed_runs(Path(SEED_RUNS).read_text(), params)
    joint = [100 * float(row["joint"]) for row in runs]
    seconds = [float(row["cpu_seconds"]) for row in runs]
    doubtful = measured["doubtful_labels"]
    sure = sum(one["answers"] * one["confidence"] for one in measured["reliability"]["digit"]) / images
    sections = [
        "# Model card: the default model of digitsum",
        "Written by `make card` from the committed metrics; a test keeps it so.",
        "## What it is",
        f"A convolutional network with {cost['weights']:,} weights (trunk `{params['model.trunk']}`, fusion "
        f"`{params['model.fusion']}`). A handwritten digit, 28 × 28 pixels as in MNIST, and a number 0-9 go in; the "
        "digit and the sum of both come out, each with probabilities. "
        f"An answer takes {cost['flop_per_image'] / 1e6:.1f} million floating-point operations.",
        f"- File: `{MODEL}`, MD5 {_md5(MODEL)} (`dvc.lock`).\n"
        f"- Identity of its content: SHA-256 {measured['identity']}, shown by `digitsum info {MODEL}`.",
        "## What it is for, and what not",
        "It is for showing how a model is made reproducibly, for learning and for comparing fusions. It is not for "
        "reading digits that matter, such as amounts or addresses: it knows only single, centred, upright digits of "
        "American writers of about 1990, in white on black. It has no way to say that an image is no digit, and gives "
        "an answer to anything.",
        "## Data",
        "MNIST, the four files whose SHA-256 are in `params.yaml`. Of the 60,000 training images "
        f"{params['pair.validation_size']:,}, the same share of every digit, are kept for watching the training; the "
        f"{images:,} test images are used for the figures here; where they were looked at before a change of the "
        "default was kept or dropped, `benchmarks/README.md` says so. "
        f"Each image has {params['pair.pairs_per_image']} number drawn for it, from seed {params['pair.seed']}.",
        "## Results",
        "On the test split, in percent, with 95 % intervals (Wilson):",
        "\n".join(_headline(evaluated, images)),
        f"Over {len(runs)} seeds the joint accuracy is {mean(joint):.2f} ± {stdev(joint):.2f} %.",
        f"{doubtful['images']} test images have labels without a majority among the people who were asked what they "
        f"show. {doubtful['right_as_labelled']} of them are answered as labelled. With them the joint accuracy is "
        f"{_percent(doubtful['joint_accuracy'])} %, without them "
        f"{_percent(doubtful['joint_accuracy_without_them'])} %.",
        "### By class",
        "\n".join(_classes(per_class)),
        "### Can its probabilities be trusted?",
        f"The expected calibration error is {_percent(evaluated['digit']['calibration_error'])} % for the digit and "
        f"{_percent(evaluated['sum']['calibration_error'])} % for the sum "
        f"({params['evaluate.calibration_bins']} bins). Label smoothing is {params['train.label_smoothing']}: it "
        "teaches a network to be less sure than it is right. This one gives its answers "
        f"{_percent(sure)} % in the mean.",
        "![Reliability diagram](studies/model_card/plots/reliability.png)",
        "### How much disturbance does it bear?",
        "Joint accuracy in percent, every test image with all ten numbers:",
        "\n".join(_disturbances(measured["all_numbers_joint_accuracy"])),
        "Training knew small turns and shifts, no noise and no blur. "
        + ("Deskewing centres every image, whatever shift it has." if params["model.deskew"] else ""),
        "![Accuracy under disturbance](studies/model_card/plots/robustness.png)",
        "## Cost",
        f"Training takes {median(seconds):.0f} CPU-seconds (median of {len(seconds)} runs, {min(seconds):.0f} to "
        f"{max(seconds):.0f}; {runs[0]['machine']}). Not measured on a GPU.",
        "## How to make it again",
        "`make repro` in a clone of this revision gives the same file, byte for byte, on any x86-64 processor with "
        "AVX2; `make card` then writes this page.",
    ]
    return "\n\n".join(sections) + "\n"


def _headline(evaluated: dict[str, Any], images: int) -> Iterator[str]:
    yield "| | accuracy | 95 % |"
    yield "|---|---|---|"
    for name in ("digit", "sum", "joint"):
        part = evaluated[name]["accuracy"]
        yield f"| {name} | {_percent(part)} | {_interval(round(part * images), images)} |"
    yield f"| joint, all ten numbers | {_percent(evaluated['all_numbers']['joint_accuracy'])} | |"


def _classes(per_class: dict[str, Any]) -> Iterator[str]:
    yield "| | images | recall | 95 % | precision | 95 % |"
    yield "|---|---|---|---|---|---|"
    for answer, rows in per_class.items():
        for row in rows:
            said = row["tp"] + row["fp"]
            recall = f"{_percent(row['recall'])} | {_interval(row['tp'], row['support'])}" if row["support"] else " | "
            precision = f"{_percent(row['precision'])} | {_interval(row['tp'], said)}" if said else " | "
            yield f"| {answer} {row['class']} | {row['support']:,} | {recall} | {precision} |"


def _disturbances(accuracies: dict[str, dict[str, float]]) -> Iterator[str]:
    units = {"shift": "pixels", "rotation": "degrees", "noise": "of the range", "blur": "pixels"}
    yield "| | none | | | | | |"
    yield "|---|---|---|---|---|---|---|"
    for name, of in accuracies.items():
        cells = [f"{strength}: {_percent(part)}" for strength, part in of.items() if strength != "0"]
        yield f"| {name}, {units[name]} | {_percent(of['0'])} | {' | '.join(cells)} |"


def _interval(right: int, total: int) -> str:
    low, high = wilson(right, total)
    return f"{_percent(low)} to {_percent(high)}"


def _percent(part: float) -> str:
    return f"{100 * part:.2f}"


def _json(path: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path(path).read_text())
    return content


def _md5(path: str) -> str:
    outs = read_yaml(Path("dvc.lock"))["stages"]["train"]["outs"]
    return next(str(out["md5"]) for out in outs if out["path"] == path)


if __name__ == "__main__":
    with errors_in_one_line():
        main()
