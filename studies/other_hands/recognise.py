"""Stage recognise: what the committed model says of pictures that are not MNIST's.

Digits from strokes, enlarged MNIST and handwriting fonts, each under every condition; scikit-learn's digits; and what
shows no digit.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits

from digitsum.core.files import write_json
from digitsum.core.numerics import Compute, configure_torch
from digitsum.core.runner import Stage
from digitsum.data.splits import Split, load_split
from digitsum.model.evidence import evidence, verdict
from digitsum.model.network import Network, load_model
from digitsum.prediction import Prediction, as_text, predict
from digitsum.sheet import Cell, thumbnail, write_sheet
from studies.other_hands.packages import CLOTHES, clothes, fetch, font_files
from studies.other_hands.pictures import CONDITIONS, NOTHING, Drawing, Random, from_font, from_image, from_strokes
from studies.pipeline import pipeline_file

NUMBER = 5  # the second input; the digit does not depend on it
LETTERS = "AEFHKMNPRTWXYhkmnwxtrf"  # that look like no digit
SHOWN = 60  # failures on the sheet
Digits = Callable[[int, Random], tuple[Drawing, int]]


def main(stage: Stage) -> None:
    """Read the model and the test split, fetch the fonts; write results.json and a sheet of failures."""
    configure_torch(stage.params(Compute))
    values = stage.declared.values
    seed, count = values["seed"], values["pictures"]
    network = load_model(pipeline_file("train", "models/digitsum.safetensors"))
    test = load_split(pipeline_file("pair", "data/paired/test.safetensors"))
    archives = fetch(values["packages"])
    fonts = font_files(archives)
    sources: dict[str, Digits] = {
        "strokes": lambda digit, random: (from_strokes(digit, random, random.uniform(0.05, 0.13)), digit),
        "MNIST, enlarged": lambda digit, random: from_test_split(test, random),
        "handwriting fonts": lambda digit, random: (from_font(fonts[random.integers(len(fonts))], str(digit)), digit),
    }
    failures: list[Cell] = []
    table: dict[str, dict[str, dict[str, float]]] = {}
    for place, (condition, photograph) in enumerate(CONDITIONS.items()):
        table[condition] = {}
        for name, draw in sources.items():
            random = np.random.default_rng([seed, place, list(sources).index(name)])
            drawings = [draw(picture % 10, random) for picture in range(count)]
            pictures = [(photograph(drawing, random), digit) for drawing, digit in drawings]
            table[condition][name] = scores(network, pictures, condition, failures)
        print(condition, {name: found["correct"] for name, found in table[condition].items()}, flush=True)
    random = np.random.default_rng([seed, len(CONDITIONS)])
    small = load_digits()
    enlarged = [(enlarge(image, 10), int(digit)) for image, digit in zip(small.images, small.target, strict=True)]
    plain = CONDITIONS["plain"]
    letters = [
        plain(from_font(fonts[letter % len(fonts)], LETTERS[letter % len(LETTERS)]), random)
        for letter in range(values["letters"])
    ]
    fashion = [Image.fromarray(image) for image in clothes(archives[CLOTHES], values["clothes"])]
    nothing = {kind: verdicts(network, (make(random) for _ in range(count))) for kind, make in NOTHING.items()}
    nothing |= {"letters": verdicts(network, letters), "Fashion-MNIST": verdicts(network, fashion)}
    results = {
        "conditions": table,
        "mean": {name: mean([row[name] for row in table.values()]) for name in sources},
        "scikit-learn's digits": scores(network, enlarged, "8x8", failures),
        "no digit": nothing,
        "MNIST's test images": of_images(network, test),
    }
    write_json(Path("results.json"), results)
    write_sheet(Path("plots/failures.png"), failures[:: max(1, len(failures) // SHOWN)][:SHOWN])


def from_test_split(test: Split, random: Random) -> tuple[Drawing, int]:
    """Return a drawing of an image of the test split, and its digit."""
    image = int(random.integers(len(test.images)))
    return from_image(test.images[image].numpy()), int(test.digits[image])


def enlarge(image: Drawing, times: int) -> Image.Image:
    """Return a picture, `times` as large, of an image of 8x8 pixels with ink 0-16: dark on white."""
    grey = Image.fromarray(np.uint8(255 - np.rint(image * (255 / 16))))
    padded = Image.new("L", (grey.width + 4, grey.height + 4), 255)
    padded.paste(grey, (2, 2))
    return padded.resize([side * times for side in padded.size], Image.Resampling.BICUBIC)


def scores(
    network: Network, pictures: list[tuple[Image.Image, int]], condition: str, failures: list[Cell]
) -> dict[str, float]:
    """Return the shares that are correct, given as sure, and correct of those; add the wrong ones to `failures`."""
    correct = []
    sure = []
    for picture, digit in pictures:
        found = predict(picture, NUMBER, network)
        likely = most_likely(found)
        correct.append(likely == digit)
        sure.append(found.verdict == "sure")
        if likely != digit:
            failures.append(Cell(thumbnail(picture), found.image, f"{condition}: {digit}", as_text(found)))
    both = np.array(correct) & np.array(sure)
    rounded = {"correct": np.mean(correct), "sure": np.mean(sure), "correct of sure": both.sum() / max(1, sum(sure))}
    return {name: round(float(share), 4) for name, share in rounded.items()}


def most_likely(prediction: Prediction) -> int | None:
    """Return the digit with the highest probability, whatever the verdict."""
    return int(np.argmax(prediction.digit_probabilities)) if prediction.digit_probabilities else None


def verdicts(network: Network, pictures: Iterable[Image.Image]) -> dict[str, float]:
    """Return the share of each verdict."""
    counts = Counter(predict(picture, NUMBER, network).verdict for picture in pictures)
    return {verdict: round(count / counts.total(), 4) for verdict, count in sorted(counts.items())}


@torch.no_grad()
def of_images(network: Network, test: Split) -> dict[str, float]:
    """Return the share of each verdict over the images of the test split, and the correct share of the sure ones."""
    counts: Counter[str] = Counter()
    correct = 0
    for images, digits in zip(test.images.split(250), test.digits.split(250), strict=True):
        digit_logits, _ = network(images, torch.zeros(len(images), dtype=torch.int64))
        probabilities, likely = digit_logits.softmax(1).max(dim=1)
        for found, probability, digit, actual in zip(
            evidence(digit_logits), probabilities, likely, digits, strict=True
        ):
            judged = verdict(float(found), float(probability), network.limits)
            counts[judged] += 1
            correct += judged == "sure" and int(digit) == int(actual)
    shares: dict[str, Any] = {judged: round(count / counts.total(), 4) for judged, count in sorted(counts.items())}
    return {**shares, "correct of sure": round(correct / counts["sure"], 4)}


def mean(rows: list[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each share over the conditions."""
    return {name: round(float(np.mean([row[name] for row in rows])), 4) for name in rows[0]}
