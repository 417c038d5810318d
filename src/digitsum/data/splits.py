"""A split of the paired data: what it holds, how it is written and read."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from digitsum.core.errors import DigitsumError
from digitsum.data.tensors import load_tensors, save_tensors


@dataclass(frozen=True)
class Split:
    """One split. Images are stored once, however many pairs use them.

    images: uint8 [M, 28, 28]; digits: uint8 [M] in 0-9; for each pair image_index: int32 [P], its image, and numbers:
    uint8 [P] in 0-9. A sum is digit plus number, so it is not kept: a pair takes 5 bytes.
    """

    images: Tensor
    digits: Tensor
    image_index: Tensor
    numbers: Tensor

    def __len__(self) -> int:
        """Count the pairs."""
        return len(self.image_index)

    def __getitem__(self, pairs: slice | Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return of these pairs the images, uint8 [N, 28, 28], the digits and the numbers, int64 [N]."""
        image_index = self.image_index[pairs]
        return self.images.index_select(0, image_index), self.digits[image_index].long(), self.numbers[pairs].long()

    def to(self, device: torch.device) -> "Split":
        """Return the split with all its tensors on `device`."""
        return Split(*(tensor.to(device) for tensor in (self.images, self.digits, self.image_index, self.numbers)))

    @property
    def sums(self) -> Tensor:
        """The sum of each pair, int64 [P]."""
        return self.digits[self.image_index].long() + self.numbers


def save_split(path: Path, split: Split) -> None:
    """Write images, digits, and `pairs`, int64 [P, 3]: rows of image index, number, sum. Equal splits, equal bytes."""
    pairs = torch.stack([split.image_index.long(), split.numbers.long(), split.sums], dim=1)
    save_tensors(path, {"images": split.images, "digits": split.digits, "pairs": pairs})


def load_split(path: Path) -> Split:
    """Read a split and check that it is one.

    Raises DigitsumError if a tensor is missing, has another shape or type, or holds what cannot be.
    """
    tensors, _ = load_tensors(path)
    if tensors.keys() != {"images", "digits", "pairs"}:
        raise DigitsumError(f"{path} holds {sorted(tensors)}, expected images, digits, pairs; run `dvc repro pair`")
    images, digits, pairs = tensors["images"], tensors["digits"], tensors["pairs"]
    holds = (
        (images.dtype, digits.dtype, pairs.dtype) == (torch.uint8, torch.uint8, torch.int64)
        and digits.ndim == 1
        and images.shape == (len(digits), 28, 28)
        and pairs.ndim == 2
        and pairs.shape == (len(pairs), 3)
        and len(pairs) > 0
        and bool(digits.max() <= 9)
        and bool((pairs[:, 0] >= 0).all() and (pairs[:, 0] < len(images)).all())
        and bool((pairs[:, 1] >= 0).all() and (pairs[:, 1] <= 9).all())
        and bool((digits[pairs[:, 0]] + pairs[:, 1] == pairs[:, 2]).all())
    )
    if not holds:
        raise DigitsumError(f"{path} is not a split of images, digits and pairs; run `dvc repro pair`")
    return Split(images, digits, pairs[:, 0].int(), pairs[:, 1].byte())
