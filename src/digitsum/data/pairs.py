"""Pairs of image and number: MNIST divided into training, validation and test, numbers drawn, sums added up."""

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split
from torch import Tensor

from digitsum.data.idx import RawMnist
from digitsum.data.splits import Split
from digitsum.errors import DigitsumError
from digitsum.randomness import derived_seed, generator


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
