"""The check of what was exported: the answers of stage evaluate, for every pair of the test split."""

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from digitsum.core.errors import DigitsumError
from digitsum.data.splits import Split

BATCH = 500  # images at once
LARGEST = 1e-3  # difference of a probability; more is an error of the export


def compare(onnx: bytes, split: Split, predictions: dict[str, Tensor], name: str) -> dict[str, float]:
    """Return how many answers of an ONNX file are not those of `predictions`, and how far probabilities are apart.

    How far is rounded up to 1, 2 or 5 times a power of ten: the last digits depend on the processor.

    Args:
        onnx: the file's content.
        split: the pairs.
        predictions: the probabilities of stage evaluate, digit_probabilities [P, 10] and sum_probabilities [P, 19].
        name: of what is checked, for the error.

    Raises DigitsumError if a probability differs by more than LARGEST.
    """
    expected = [predictions["digit_probabilities"], predictions["sum_probabilities"]]
    pairs = list(zip(probabilities(onnx, split), expected, strict=True))
    changed = sum(int((one.argmax(1) != other.argmax(1)).sum()) for one, other in pairs)
    farthest = float(torch.stack([(one - other).abs().max() for one, other in pairs]).max())  # NaN if one is
    if not farthest <= LARGEST:
        raise DigitsumError(
            f"{name} gives probabilities that are {farthest:g} from the model's; more than {LARGEST:g} is no rounding: "
            "the export computes something else"
        )
    steps = (float(f"{first}e{power}") for power in range(-9, 0) for first in (1, 2, 5))
    return {"answers_changed": changed, "probabilities_differ_by": next(step for step in steps if step >= farthest)}


def probabilities(onnx: bytes, split: Split) -> list[Tensor]:
    """Return the probabilities of the digits, float [P, 10], and of the sums, float [P, 19], for all pairs."""
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    parts = []
    for start in range(0, len(split), BATCH):
        images, _, numbers = split[start : start + BATCH]
        parts.append(session.run(None, {"images": images.numpy(), "numbers": numbers.numpy()}))
    logits = [torch.from_numpy(np.concatenate(part)) for part in zip(*parts, strict=True)]
    return [part.softmax(1) for part in logits]
