"""A report as a folder: report.md with its figures beside it, summary.md without, and report.json for programs."""

import contextlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

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
        if (comparison.head.confusion[answer] != comparison.base.confusion[answer]).any():
            name = f"confusion_{answer}.png"
            figures[f"Change of the confusion of the {answer}"] = name
            draw_confusion_change(folder / name, comparison, answer)
    if len(comparison.lost) + len(comparison.won):
        try:
            images = _test_images(comparison.head, comparison.base)
        except OSError:
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
        with contextlib.suppress(OSError):
            return Files(run.revision).tensors(TEST_SPLIT)["images"]
    raise FileNotFoundError(TEST_SPLIT)
