"""Judge a change without the test split: train on MNIST's first training images, score on its last 10,000.

    python -m benchmarks.held_out --seeds 2 train.epochs=12 train.threads=1    # in the virtual environment

Images held out at random would flatter: they share their writers with those that are trained on (README.md beside this
file). Needs data/raw only.
"""

import argparse
import dataclasses
import math
from pathlib import Path

import stages  # noqa: F401  prepares the environment as for a stage, before torch is imported

# isort: split
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional

from digitsum.data.idx import RawMnist, expected_digests, read_raw
from digitsum.data.pairs import make_splits
from digitsum.evaluation.predict import see_images
from digitsum.params import load_params
from studies.measuring import errors_in_one_line, train_network

LAST = 10_000


def main() -> None:
    """Train with each seed, and print a line for it."""
    arguments = argparse.ArgumentParser(description="Train on MNIST's first training images, score on its last 10,000.")
    arguments.add_argument("--seeds", type=int, default=1, help="seeds 0 to N - 1 (default 1)")
    arguments.add_argument("changes", nargs="*", metavar="NAME=VALUE", help="what to change in params.yaml")
    options = arguments.parse_args()
    params = load_params("train", changes=options.changes)
    pair = load_params("pair", changes=options.changes).pair
    raw = hold_out(read_raw(Path("data/raw"), expected_digests(load_params("fetch").fetch)), LAST)
    splits = make_splits(raw, 0, pair.pairs_per_image, pair.seed, pair.training_size)
    held_out = splits["test"]
    for seed in range(options.seeds):
        of_seed = dataclasses.replace(params, train=dataclasses.replace(params.train, seed=seed))
        network, wall, cpu = train_network(of_seed, splits["train"], held_out)
        logits, digits = see_images(network, held_out.images).digit_logits, held_out.digits.long()
        errors, nll = int((logits.argmax(1) != digits).sum()), least_nll(logits, digits)
        percent = 100 * errors / len(digits)
        print(f"seed {seed}: errors {percent:.2f} %, NLL {nll:.4f}, {wall:.0f} s, {cpu:.0f} CPU-s", flush=True)


def hold_out(raw: RawMnist, last: int) -> RawMnist:
    """Give MNIST with the last training images in place of the test split, which is nowhere in it."""
    return RawMnist(
        raw.train_images[:-last], raw.train_labels[:-last], raw.train_images[-last:], raw.train_labels[-last:]
    )


def least_nll(logits: Tensor, digits: Tensor) -> float:
    """Give the mean negative log-likelihood, nats, of logits [N, 10] at the temperature that makes it least.

    So it compares networks that were trained with other smoothing of labels, or for longer. Guo et al., "On
    Calibration of Modern Neural Networks", arXiv 1706.04599.
    """

    def nll(log_temperature: float) -> float:
        return functional.cross_entropy(logits.double() / math.exp(log_temperature), digits).item()

    return float(minimize_scalar(nll, bounds=(-4, 4), method="bounded").fun)


if __name__ == "__main__":
    with errors_in_one_line():
        main()
