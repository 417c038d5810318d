"""Stage sums: draw by seed which images are the digits of which numbers, each image used once.

The drawn sums are a function of the seed, so that only their digests are kept: the trials draw them again, and compare.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from digitsum.core.files import write_json
from digitsum.core.params import choice, number, whole
from digitsum.core.runner import Stage
from digitsum.data.generators import generator
from digitsum.data.tensors import identity
from digitsum.mnist.idx import RawMnist
from studies.mnist_add.addition import add
from studies.trial import of_variant, read_mnist, read_seeds

DRAWN = Path("sums.json")


@dataclass(frozen=True)
class Addition:
    """The task, and how it is learned."""

    num_digits: int = whole(at_least=1, at_most=15)  # of each number; int64 would hold sums of 18
    labels: str = choice("sums", "digits")
    held_out: int = whole(at_least=0, at_most=59_000)
    first_smoothing: float = number(at_least=0, below=1)
    first_part: float = number(at_least=0, at_most=1)


@dataclass(frozen=True)
class Examples:
    """S sums: images uint8 [M, 28, 28] and digits int64 [M]; for each sum the rows int64 [S, 2, N] of its images."""

    images: Tensor
    digits: Tensor
    rows: Tensor

    @property
    def sums(self) -> Tensor:
        """The labels: the sum of both numbers, int64 [S]."""
        return add(self.digits[self.rows])


def main(stage: Stage) -> None:
    """Draw the sums of every variant with all its seeds; write their digests to sums.json."""
    raw, digests = read_mnist(stage), {}
    for name in stage.declared.values["variants"]:
        variant = of_variant(stage, name)
        digests[name] = digest_of_sums(raw, variant.params(Addition), read_seeds(variant, name))
    write_json(DRAWN, {"variants": digests})


def digest_of_sums(raw: RawMnist, addition: Addition, seeds: list[int]) -> str:
    """Return a SHA-256 of the rows and labels of all sums that are drawn with `seeds`."""
    tensors: dict[str, Tensor] = {}
    for seed in seeds:
        for part, examples in zip(("train", "test"), draw_examples(raw, addition, seed), strict=True):
            tensors |= {f"{part} {seed} rows": examples.rows, f"{part} {seed} sums": examples.sums}
    return identity(tensors, {})


def draw_examples(raw: RawMnist, addition: Addition, seed: int) -> tuple[Examples, Examples]:
    """Return the sums to train on and those of the test split, drawn by `seed`: a shuffle, cut into pairs of numbers.

    With `held_out` images the second are sums of so many training images, on which values can be chosen.
    """
    images, digits = torch.from_numpy(raw.train_images), torch.from_numpy(raw.train_labels).long()
    if addition.held_out:
        last = len(images) - addition.held_out
        parts = ((images[:last], digits[:last]), (images[last:], digits[last:]))
    else:
        parts = (images, digits), (torch.from_numpy(raw.test_images), torch.from_numpy(raw.test_labels).long())
    training, test = (
        Examples(*part, draw_rows(len(part[0]), addition.num_digits, name, seed))
        for name, part in zip(("train", "test"), parts, strict=True)
    )
    return training, test


def draw_rows(images: int, num_digits: int, part: str, seed: int) -> Tensor:
    """Shuffle the rows of `images` images and return them as sums, int64 [S, 2, N]; what is left over is not used."""
    shuffled = torch.randperm(images, generator=generator("sums", part, seed))
    count = images // (2 * num_digits)
    return shuffled[: count * 2 * num_digits].view(count, 2, num_digits)
