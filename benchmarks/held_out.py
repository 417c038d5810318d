"""Judge a change without the test split: train on 50,000 of MNIST's training images, score on the other 10,000.

    python -m benchmarks held_out --folds 3 train.epochs=12    # in the virtual environment

The first fold holds out the last 10,000 images, the second the 10,000 before them, and so on to the sixth. Images held
out at random would give errors that are too low: they share their writers with those that are trained on, see
docs/experiments.md. Each fold has a seed of its own. Needs data/raw only.
"""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Sequence

import numpy as np
from torch import Tensor
from torch.nn import functional

from digitsum.evaluation.predict import encode_images
from digitsum.mnist.idx import RawMnist
from digitsum.pairing.pairs import make_splits
from digitsum.training.calibration import fitted_temperature
from digitsum.training.devices import choose_device
from digitsum.training.loop import train_network
from tools.recipes import read_mnist, read_recipe

FOLDS = 6


def main(arguments: Sequence[str], numerics: str) -> None:
    """Train for each fold, and print a line for it; then their means."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks held_out", description=__doc__.partition("\n")[0])
    parser.add_argument("--folds", type=int, choices=range(1, FOLDS + 1), default=1, help="how many (default 1)")
    parser.add_argument("changes", nargs="*", metavar="NAME=VALUE", help="what to change in params.yaml")
    options = parser.parse_args(arguments)
    recipe = read_recipe([*options.changes, f"compute.numerics={numerics}"])
    pair, training = dataclasses.replace(recipe.pair, validation_size=0), recipe.training
    raw = read_mnist()
    measured = []
    for fold in range(options.folds):
        splits = make_splits(hold_out(raw, fold), pair)
        held_out = splits["test"]
        params = dataclasses.replace(training, train=dataclasses.replace(training.train, seed=fold))
        wall, cpu = time.perf_counter(), time.process_time()
        network, _ = train_network(params, splits["train"], held_out, choose_device(params.train.device))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        logits, digits = encode_images(network, held_out.images).digit_logits, held_out.digits.long()
        errors = 100 * (logits.argmax(1) != digits).double().mean().item()
        measured.append((errors, lowest_nll(logits, digits), wall, cpu))
        print(line(f"fold {fold}", measured[-1]), flush=True)
    print(line("mean", [statistics.mean(values) for values in zip(*measured, strict=True)]))


def hold_out(raw: RawMnist, fold: int) -> RawMnist:
    """Return MNIST with a fold of the training images in place of the test split, which is left out.

    A fold is consecutive images; number 0 is the last.
    """
    end = len(raw.train_images) * (FOLDS - fold) // FOLDS
    start = len(raw.train_images) * (FOLDS - fold - 1) // FOLDS
    images, labels = (np.delete(a, slice(start, end), axis=0) for a in (raw.train_images, raw.train_labels))
    return RawMnist(images, labels, raw.train_images[start:end], raw.train_labels[start:end])


def line(name: str, measured: Sequence[float]) -> str:
    """Return a line with errors, NLL and seconds."""
    errors, nll, wall, cpu = measured
    return f"{name}: errors {errors:.2f} %, NLL {nll:.4f}, {wall:.0f} s, {cpu:.0f} CPU-s"


def lowest_nll(logits: Tensor, digits: Tensor) -> float:
    """Return the mean negative log-likelihood, nats, of logits [N, 10] at the temperature that minimises it.

    So it compares networks that were trained with other smoothing of labels, or for longer. Guo et al., "On
    Calibration of Modern Neural Networks", arXiv 1706.04599.
    """
    return functional.cross_entropy(logits.double() / fitted_temperature(logits, digits), digits).item()
