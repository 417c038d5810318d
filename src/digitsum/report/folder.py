"""A report as a folder: report.md with its figures beside it, summary.md without, and report.json for programs."""

import contextlib
from pathlib import Path

import numpy as np
from dvc.exceptions import DvcException
from numpy.typing import NDArray

from digitsum.core.errors import DigitsumError
from digitsum.core.files import write_bytes, write_json
from digitsum.report.compare import Comparison
from digitsum.report.figures import draw_changed_images, draw_confusion_change
from digitsum.report.files import Files
from digitsum.report.markdown import to_json, to_markdown
from digitsum.report.revisions import TEST_SPLIT, Run


def write_report(folder: Path, comparison: Comparison) -> None:
    """Write a comparison into `folder`, with figures of what changed only."""
    figures = {}
    for answer in ("digit", "sum"):
        base, head = comparison.base.confusion[answer], comparison.head.confusion[answer]
        if (head.sum(axis=1) != base.sum(axis=1)).any():
            comparison.notes.append(f"The confusion of the {answer} is not drawn: base and head hold other pairs.")
        elif (head != base).any():
            name = f"confusion_{answer}.png"
            figures[f"Change of the confusion of the {answer}"] = name
            draw_confusion_change(folder / name, comparison, answer)
    if len(comparison.lost) + len(comparison.won):
        try:
            images = _test_images(comparison.head, comparison.base)
        except (OSError, DvcException):
            comparison.notes.append(f"To show the images that changed, {TEST_SPLIT} is needed: `dvc pull pair`.")
        else:
            figures["Images that changed"] = "images.png"
            draw_changed_images(folder / "images.png", comparison, images)
    write_json(folder / "report.json", to_json(comparison))
    write_bytes(folder / "report.md", to_markdown(comparison, figures).encode())
    write_bytes(folder / "summary.md", to_markdown(comparison, {}).encode())


def _test_images(*runs: Run) -> NDArray[np.uint8]:
    """Return the test images, uint8 [M, 28, 28], from the first run that has them. Raises OSError if none has."""
    for run in runs:
        with contextlib.suppress(OSError, DvcException):
            images = Files(run.revision).tensors(TEST_SPLIT).get("images", np.empty(0))
            most = 0 if run.predictions is None else run.predictions.image.max()
            if images.dtype == np.uint8 and images.shape[1:] == (28, 28) and len(images) > most:
                return images
            raise DigitsumError(f"{TEST_SPLIT} does not hold the images of the predictions; `dvc repro` makes it again")
    raise FileNotFoundError(TEST_SPLIT)
