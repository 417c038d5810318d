"""Judge a change without the test split: train on 50,000 of MNIST's training images, score on the other 10,000.

    python -m benchmarks.held_out --folds 3 train.epochs=12    # in the virtual environment

The first fold holds out the last 10,000 images, the second the 10,000 before them, and so on to the sixth. Images held
out at random would flatter: they share their writers with those that are trained on (README.md beside this file). Each
fold has a seed of its own. Needs data/raw only.
"""

import argparse
import dataclasses
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

import stages  # noqa: F401  prepares the environment as for a stage, before torch is imported

# isort: split
import numpy as np
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional

from digitsum.mnist.idx import RawMnist, expected_digests, read_raw
from digitsum.pairing.pairs import make_splits
from digitsum.evaluation.predict import see_images
from digitsum.core.params import load_params
from studies.measuring import errors_in_one_line, train_network

FOLDS = 6


def main() -> None:
    """Train for each fold, and print a line for it; then their means."""
    arguments = argparse.ArgumentParser(description="Train without 10,000 of MNIST's training images, score on them.")
    arguments.add_argument("--folds", type=int, choices=range(1, FOLDS + 1), default=1, help="how many (default 1)")
    arguments.add_argument("changes", nargs="*", metavar="NAME=VALUE", help="what to change in params.yaml")
    options = arguments.parse_args()
    params = load_params("train", changes=options.changes)
    pair = load_params("pair", changes=options.changes).pair
    raw = read_raw(Path("data/raw"), expected_digests(load_params("fetch").fetch))
    found = []
    for fold in range(options.folds):
        splits = make_splits(hold_out(raw, fold), 0, pair.pairs_per_image, pair.seed, pair.training_size)
        held_out = splits["test"]
        of_seed = dataclasses.replace(params, train=dataclasses.replace(params.train, seed=fold))
        network, wall, cpu = train_network(of_seed, splits["train"], held_out)
        logits, digits = see_images(network, held_out.images).digit_logits, held_out.digits.long()
        percent = 100 * (logits.argmax(1) != digits).double().mean().item()
        found.append((percent, least_nll(logits, digits), wall, cpu))
        print(line(f"fold {fold}", found[-1]), flush=True)
    print(line("mean", [statistics.mean(values) for values in zip(*found, strict=True)]))


def hold_out(raw: RawMnist, fold: int) -> RawMnist:
    """Return MNIST with a fold of the training images in place of the test split, which is nowhere in it.

    A fold is images that follow one another; number 0 is the last.
    """
    end = len(raw.train_images) * (FOLDS - fold) // FOLDS
    start = len(raw.train_images) * (FOLDS - fold - 1) // FOLDS
    images, labels = (np.delete(a, slice(start, end), axis=0) for a in (raw.train_images, raw.train_labels))
    return RawMnist(images, labels, raw.train_images[start:end], raw.train_labels[start:end])


def line(name: str, found: Sequence[float]) -> str:
    """Say what was found: errors, NLL, seconds."""
    percent, nll, wall, cpu = found
    return f"{name}: errors {percent:.2f} %, NLL {nll:.4f}, {wall:.0f} s, {cpu:.0f} CPU-s"


def least_nll(logits: Tensor, digits: Tensor) -> float:
    """Return the mean negative log-likelihood, nats, of logits [N, 10] at the temperature that makes it least.

    So it compares networks that were trained with other smoothing of labels, or for longer. Guo et al., "On
    Calibration of Modern Neural Networks", arXiv 1706.04599.
    """

    def nll(log_temperature: float) -> float:
        return functional.cross_entropy(logits.double() / math.exp(log_temperature), digits).item()

    return float(minimize_scalar(nll, bounds=(-4, 4), method="bounded").fun)


if __name__ == "__main__":
    with errors_in_one_line():
        main()
