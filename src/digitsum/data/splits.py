"""A split of the paired data: what it holds, how it is written and read."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from digitsum.core.errors import DigitsumError
from digitsum.data.tensors import Rows, Source, load_from, read_rows, save_tensors


@dataclass(frozen=True)
class Split:
    """One split. Images are stored once, however many pairs use them.

    images: uint8 [M, 28, 28]; digits: uint8 [M] in 0-9; for each pair image_index: int32 [P], its image, and numbers:
    uint8 [P] in 0-9. A sum is digit plus number, so it is not kept: a pair takes 5 bytes. is_test: the images are those
    of the test split, on which nothing may be fitted. source: the file that the split was loaded from.
    """

    images: Tensor
    digits: Tensor
    image_index: Tensor
    numbers: Tensor
    is_test: bool = field(default=False, kw_only=True)
    source: Source | None = field(default=None, kw_only=True)

    def __len__(self) -> int:
        """Count the pairs."""
        return len(self.image_index)

    def __getitem__(self, pairs: slice | Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the images, uint8 [N, 28, 28], the digits and the numbers, int64 [N], of these pairs."""
        image_index = self.image_index[pairs]
        return self.images.index_select(0, image_index), self.digits[image_index].long(), self.numbers[pairs].long()

    @property
    def is_in_file(self) -> bool:
        """Whether the images are a file's, which may be larger than memory."""
        return self.source is not None and self.images.device.type == "cpu"

    def read(self, pairs: Tensor) -> "Split":
        """Return the split of these pairs, int [P], with images of its own, read from the file."""
        assert self.source
        rows, image_index = self.image_index[pairs].unique(return_inverse=True)
        images = read_rows(self.source, "images", rows.long())
        return Split(images, self.digits[rows], image_index.int(), self.numbers[pairs], is_test=self.is_test)

    def to(self, device: torch.device) -> "Split":
        """Return the split with all its tensors on `device`."""
        tensors = (self.images, self.digits, self.image_index, self.numbers)
        return Split(*(tensor.to(device) for tensor in tensors), is_test=self.is_test, source=self.source)

    @property
    def sums(self) -> Tensor:
        """The sum of each pair, int64 [P]."""
        return self.digits[self.image_index].long() + self.numbers


def save_split(path: Path, split: Split, rows: Tensor | None = None) -> None:
    """Write images, digits, and `pairs`, int64 [P, 3]: rows of image index, number, sum. Equal splits, equal bytes.

    rows: which of its images the split is made of, int64 [M], if `split.images` are more. They are read in parts.
    """
    pairs = torch.stack([split.image_index.long(), split.numbers.long(), split.sums], dim=1)
    images = split.images if rows is None else Rows(split.images, rows)
    save_tensors(
        path, {"images": images, "digits": split.digits, "pairs": pairs}, {"is_test": True} if split.is_test else {}
    )


def load_split(path: Path) -> Split:
    """Read a split and check that it is one.

    Raises DigitsumError if a tensor is missing, has another shape or type, or holds what cannot be.
    """
    tensors, config, source = load_from(path)
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
    return Split(
        images, digits, pairs[:, 0].int(), pairs[:, 1].byte(), is_test=config.get("is_test", False), source=source
    )
