"""Pairs of image and number: MNIST divided into training, validation and test, numbers drawn, sums added up."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor

from digitsum.core.errors import DigitsumError
from digitsum.data.generators import derived_seed, generator
from digitsum.data.splits import Split, save_split
from digitsum.mnist.idx import RawMnist
from digitsum.pairing.params import Pair


class Selection(NamedTuple):
    """The images `rows` of MNIST's training or test images, uint8 [M, 28, 28], and the numbers of their pairs."""

    images: Tensor
    digits: Tensor
    rows: Tensor
    numbers: Tensor
    is_test: bool = False

    def split(self) -> Split:
        """Return the split, with images of its own."""
        return self._paired(self.images[self.rows])

    def save(self, path: Path) -> None:
        """Write the split; the images are read in parts, and may be more than fit into memory."""
        save_split(path, self._paired(self.images), self.rows)

    def _paired(self, images: Tensor) -> Split:
        return paired(images, self.digits[self.rows], self.numbers, self.is_test)


def make_splits(raw: RawMnist, params: Pair) -> dict[str, Split]:
    """Return what select_images selects, in memory."""
    selected = select_images(raw, params)
    splits = {name: selection.split() for name, selection in selected.items() if name != "validation"}
    validation = selected["validation"]
    return splits | {"validation": splits["test"] if validation.is_test else validation.split()}


def select_images(raw: RawMnist, params: Pair) -> dict[str, Selection]:
    """Pair every image with numbers and divide MNIST into train, validation and test.

    Validation is a stratified draw of `validation_size` images from MNIST's training images; test is MNIST's own. With
    a validation size of 0 the test split stands in for validation. Training is the rest, or a stratified draw of
    `training_size` images of it. Numbers are drawn before the division, and the k-th number of an image does not depend
    on how many it gets: another validation size moves images between the splits and changes no pair.
    Raises DigitsumError if a draw or its rest has fewer than one image a digit.
    """
    seed, pairs_per_image = params.seed, params.pairs_per_image
    images, digits, test_images, test_digits = (
        torch.from_numpy(array) for array in (raw.train_images, raw.train_labels, raw.test_images, raw.test_labels)
    )
    numbers = draw_numbers(len(images), pairs_per_image, "train", seed)
    test_numbers = draw_numbers(len(test_images), pairs_per_image, "test", seed)
    test = Selection(test_images, test_digits, torch.arange(len(test_images)), test_numbers, is_test=True)
    train, validation = torch.arange(len(images)), test
    if params.validation_size:
        train, drawn = _stratified(train, digits, "validation_size", params.validation_size, seed)
        validation = Selection(images, digits, drawn, numbers[:, drawn])
    if params.training_size:
        _, train = _stratified(train, digits, "training_size", params.training_size, seed)
    return {"train": Selection(images, digits, train, numbers[:, train]), "validation": validation, "test": test}


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


def paired(images: Tensor, digits: Tensor, numbers: Tensor, is_test: bool = False) -> Split:
    """Make the pairs of images with their numbers, int64 [pairs_per_image, M], draw after draw."""
    image_index = torch.arange(len(digits), dtype=torch.int32).repeat(len(numbers))
    return Split(images, digits, image_index, numbers.flatten().byte(), is_test=is_test)
