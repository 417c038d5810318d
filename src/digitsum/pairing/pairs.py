"""Pairs of image and number: MNIST divided into training, validation and test, numbers drawn, sums added up."""

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor

from digitsum.core.errors import DigitsumError
from digitsum.data.generators import derived_seed, generator
from digitsum.data.splits import Split
from digitsum.mnist.idx import RawMnist
from digitsum.pairing.params import Pair


def make_splits(raw: RawMnist, params: Pair) -> dict[str, Split]:
    """Pair every image with numbers and divide MNIST into train, validation and test.

    Validation is a stratified draw of `validation_size` images from MNIST's training images; test is MNIST's own. With
    a validation size of 0 the test split stands in for validation. Training is the rest, or a stratified draw of
    `training_size` images of it. Numbers are drawn before the division, and the k-th number of an image does not depend
    on how many it gets: another validation size moves images between the splits and changes no pair.
    Raises DigitsumError if a draw or its rest has fewer than one image a digit.
    """
    seed, pairs_per_image = params.seed, params.pairs_per_image
    train_images, train_digits = torch.tensor(raw.train_images), torch.tensor(raw.train_labels)
    numbers = draw_numbers(len(train_images), pairs_per_image, "train", seed)
    test_numbers = draw_numbers(len(raw.test_images), pairs_per_image, "test", seed)
    test = paired(torch.tensor(raw.test_images), torch.tensor(raw.test_labels), test_numbers)
    train, validation = torch.arange(len(train_images)), test
    if params.validation_size:
        train, drawn = _stratified(train, train_digits, "validation_size", params.validation_size, seed)
        validation = paired(train_images[drawn], train_digits[drawn], numbers[:, drawn])
    if params.training_size:
        _, train = _stratified(train, train_digits, "training_size", params.training_size, seed)
    return {
        "train": paired(train_images[train], train_digits[train], numbers[:, train]),
        "validation": validation,
        "test": test,
    }


def draw_numbers(images: int, pairs_per_image: int, part: str, seed: int) -> Tensor:
    """Draw a number for every image, `pairs_per_image` times over: int64 [pairs_per_image, images], 0-9 uniform."""
    draws = generator("numbers", part, seed)
    return torch.stack([torch.randint(0, 10, (images,), generator=draws) for _ in range(pairs_per_image)])


def _stratified(images: Tensor, digits: Tensor, parameter: str, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw `size` of the indices `images` so that every digit has the same share: those left, those drawn; sorted."""
    try:
        left, drawn = train_test_split(
            images.numpy(),
            test_size=size,
            stratify=digits[images].numpy(),
            random_state=derived_seed("split", seed) % 2**32,
        )
    except ValueError as error:
        raise DigitsumError(
            f"params.yaml: pair.{parameter} is {size}, which does not divide the {len(images)} training images: {error}"
        ) from None
    return torch.from_numpy(np.sort(left)), torch.from_numpy(np.sort(drawn))


def paired(images: Tensor, digits: Tensor, numbers: Tensor) -> Split:
    """Make the pairs of images with their numbers, int64 [pairs_per_image, M], draw after draw."""
    image_index = torch.arange(len(images), dtype=torch.int32).repeat(len(numbers))
    return Split(images, digits, image_index, numbers.flatten().byte())
