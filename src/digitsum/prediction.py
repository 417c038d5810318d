"""The answer of a trained network to a picture: digit, sum, probabilities, and whether they can be relied on."""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from digitsum.model.evidence import ENCLOSED, LEAST_CONTRAST, LEAST_SIGNAL, evidence, verdict
from digitsum.model.network import Network, load_model
from digitsum.picture import candidates, read_picture

MODEL = "models/digitsum.safetensors"


@dataclass(frozen=True)
class Prediction:
    """What a network says of a picture and a number.

    verdict: sure, unsure, no digit or no ink.
    digit, sum: the most likely ones; None unless the verdict is sure or unsure.
    digit_probabilities, sum_probabilities: of the digits 0-9 and the sums 0-18; empty if there is no ink.
    image: uint8 [28, 28], what the network saw; None if there is no ink.
    """

    verdict: str
    digit: int | None = None
    sum: int | None = None
    digit_probabilities: tuple[float, ...] = ()
    sum_probabilities: tuple[float, ...] = ()
    image: NDArray[np.uint8] | None = None


def predict(
    picture: str | PathLike[str] | bytes | Image.Image | NDArray[np.uint8],
    number: int,
    model: str | PathLike[str] | Network = MODEL,
) -> Prediction:
    """Return what a network says of a picture and a number 0-9.

    Of dark ink on light paper and light ink on dark paper, that is taken which the network finds more evidence for.

    Args:
        picture: a file, its bytes, a Pillow image, or uint8 [H, W] or [H, W, 3].
        number: the second input.
        model: a file that stage train wrote, or the network that `load_model` returned.

    Raises DigitsumError if the picture or the model cannot be read, ValueError if the number is not 0-9.
    """
    if number not in range(10):
        raise ValueError(f"number is {number}, expected 0-9")
    network = model if isinstance(model, Network) else load_model(model)
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    if not isinstance(picture, Image.Image):
        picture = read_picture(picture if isinstance(picture, bytes) else Path(picture))
    found = [
        candidate
        for candidate in candidates(picture)
        if candidate.contrast >= LEAST_CONTRAST and candidate.signal >= LEAST_SIGNAL
    ]
    if not found:
        return Prediction("no ink")
    images = torch.from_numpy(np.stack([candidate.image for candidate in found]))
    with torch.no_grad():
        digit_logits, sum_logits = network(images, torch.full((len(found),), number))
    of_digit = evidence(digit_logits) - ENCLOSED * torch.tensor([float(candidate.enclosed) for candidate in found])
    best = int(of_digit.argmax())
    digits, sums = digit_logits[best].softmax(0), sum_logits[best].softmax(0)
    judged = verdict(float(of_digit[best]), float(digits.max()), network.limits)
    given = judged != "no digit"
    return Prediction(
        judged,
        int(digits.argmax()) if given else None,
        int(sums.argmax()) if given else None,
        tuple(digits.tolist()),
        tuple(sums.tolist()),
        found[best].image,
    )


def as_text(prediction: Prediction) -> str:
    """Return a prediction in a few words."""
    if prediction.digit is None:
        return prediction.verdict
    likely = f"digit {prediction.digit}, sum {prediction.sum} ({max(prediction.digit_probabilities):.1%})"
    return likely if prediction.verdict == "sure" else f"unsure, perhaps {likely}"


def as_dict(prediction: Prediction) -> dict[str, Any]:
    """Return a prediction as JSON can hold it, without the image; probabilities are rounded to 6 decimals."""
    rounded = {
        f"{answer}_probabilities": [round(float(p), 6) for p in getattr(prediction, f"{answer}_probabilities")]
        for answer in ("digit", "sum")
    }
    return {"verdict": prediction.verdict, "digit": prediction.digit, "sum": prediction.sum, **rounded}
