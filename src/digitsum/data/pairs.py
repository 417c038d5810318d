"""Pairs of image and number, in three splits: training, validation and test."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split
from torch import Tensor

from digitsum.data.idx import RawMnist
from digitsum.errors import DigitsumError
from digitsum.randomness import derived_seed, generator
from digitsum.tensors import load_tensors, save_tensors


@dataclass(frozen=True)
class Split:
    """One split. Images are stored once, however many pairs use them.

    images: uint8 [M, 28, 28]; digits: uint8 [M] in 0-9; pairs: int64 [P, 3], each row the index of an image,
    a number 0-9 and the sum of that image's digit and the number.
    """

    images: Tensor
    digits: Tensor
    pairs: Tensor

    @property
    def image_index(self) -> Tensor:
        """The image of each pair, int64 [P]."""
        return self.pairs[:, 0]

    @property
    def numbers(self) -> Tensor:
        """The number of each pair, int64 [P]."""
        return self.pairs[:, 1]

    @property
    def sums(self) -> Tensor:
        """The sum of each pair, int64 [P]."""
        return self.pairs[:, 2]


def make_splits(raw: RawMnist, validation_size: int, pairs_per_image: int, seed: int) -> dict[str, Split]:
    """Pair every image with `pairs_per_image` numbers and divide MNIST into train, validation and test.

    Validation is a stratified draw of `validation_size` images from MNIST's training set; test is MNIST's own.
    Numbers are drawn for an image before the division, and the k-th draw does not depend on how many there are:
    another validation size moves images between the splits but changes no pair.
    Raises DigitsumError if the validation split leaves fewer than one training image a digit.
    """
    train_images, train_digits = (
        torch.from_numpy(raw.train_images.copy()),
        torch.from_numpy(raw.train_labels.copy()),
    )
    numbers = draw_numbers(len(train_images), pairs_per_image, "train", seed)
    train, validation = _stratified(raw.train_labels, validation_size, seed)
    return {
        "train": _split(train_images[train], train_digits[train], numbers[:, train]),
        "validation": _split(train_images[validation], train_digits[validation], numbers[:, validation]),
        "test": _split(
            torch.from_numpy(raw.test_images.copy()),
            torch.from_numpy(raw.test_labels.copy()),
            draw_numbers(len(raw.test_images), pairs_per_image, "test", seed),
        ),
    }


def draw_numbers(images: int, pairs_per_image: int, part: str, seed: int) -> Tensor:
    """Draw a number for every image, `pairs_per_image` times over: int64 [pairs_per_image, images], 0-9 uniform."""
    draws = generator("numbers", part, seed)
    return torch.stack([torch.randint(0, 10, (images,), generator=draws) for _ in range(pairs_per_image)])


def normalisation(images: Tensor) -> tuple[float, float]:
    """Give the mean and the standard deviation of the pixels of uint8 `images`, scaled to 0-1.

    Counted in whole numbers, so the result has the same bits however many threads count.
    """
    counts = torch.bincount(images.flatten(), minlength=256)
    values, total = torch.arange(256), int(counts.sum())
    mean = int((counts * values).sum()) / total
    variance = int((counts * values**2).sum()) / total - mean**2
    return mean / 255, variance**0.5 / 255


def save_split(path: Path, split: Split) -> None:
    """Write a split; equal splits give equal bytes."""
    save_tensors(path, {"images": split.images, "digits": split.digits, "pairs": split.pairs})


def load_split(path: Path) -> Split:
    """Read a split and check that it is one.

    Raises DigitsumError if a tensor is missing, has another shape or type, or holds what cannot be.
    """
    tensors, _ = load_tensors(path)
    if tensors.keys() != {"images", "digits", "pairs"}:
        raise DigitsumError(f"{path} holds {sorted(tensors)}, expected images, digits, pairs; run `dvc repro pair`")
    split = Split(**tensors)
    images, digits, pairs = split.images, split.digits, split.pairs
    holds = (
        (images.dtype, digits.dtype, pairs.dtype) == (torch.uint8, torch.uint8, torch.int64)
        and digits.ndim == 1
        and images.shape == (len(digits), 28, 28)
        and pairs.ndim == 2
        and pairs.shape == (len(pairs), 3)
        and len(pairs) > 0
        and bool(digits.max() <= 9)
        and bool((split.image_index >= 0).all() and (split.image_index < len(images)).all())
        and bool((split.numbers >= 0).all() and (split.numbers <= 9).all())
        and bool((digits[split.image_index] + split.numbers == split.sums).all())
    )
    if not holds:
        raise DigitsumError(f"{path} is not a split of images, digits and pairs; run `dvc repro pair`")
    return split


def _stratified(labels: NDArray[np.uint8], validation_size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Divide the indices of `labels` so that every digit has the same share of both parts; both sorted."""
    try:
        train, validation = train_test_split(
            np.arange(len(labels)),
            test_size=validation_size,
            stratify=labels,
            random_state=derived_seed("split", seed) % 2**32,
        )
    except ValueError as error:
        raise DigitsumError(
            f"params.yaml: pair.validation_size is {validation_size}, which does not divide the "
            f"{len(labels)} training images: {error}"
        ) from None
    return torch.from_numpy(np.sort(train)), torch.from_numpy(np.sort(validation))


def _split(images: Tensor, digits: Tensor, numbers: Tensor) -> Split:
    """Make the pairs of images with their numbers, int64 [pairs_per_image, M], draw after draw."""
    image_index = torch.arange(len(images)).repeat(len(numbers))
    drawn = numbers.flatten()
    return Split(images, digits, torch.stack([image_index, drawn, digits[image_index] + drawn], dim=1))
