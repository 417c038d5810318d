"""A split of the paired data: what it holds, how it is written and read."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from digitsum.errors import DigitsumError
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

    def to(self, device: torch.device) -> "Split":
        """Give the split with all its tensors on `device`."""
        return Split(self.images.to(device), self.digits.to(device), self.pairs.to(device))

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


def normalisation(images: Tensor) -> tuple[float, float]:
    """Give the mean and the standard deviation of the pixels of uint8 `images`, scaled to 0-1.

    Counted in whole numbers, so the result has the same bits however many threads count; a part of the images at a
    time, for counting takes 8 bytes a pixel.
    """
    counts = torch.stack([torch.bincount(part.flatten(), minlength=256) for part in images.split(1000)]).sum(dim=0)
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
