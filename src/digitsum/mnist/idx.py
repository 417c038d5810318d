"""The four IDX files of MNIST: their names, their format, and what must hold before they are believed.

By hand, because torchvision's reader takes a file with the wrong shape or labels.
Format: http://yann.lecun.com/exdb/mnist/ - two zero bytes, the type 8 (uint8), the number of dimensions, each
dimension as a big-endian 32-bit whole number, then the bytes.
"""

import hashlib
import math
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from digitsum.core.errors import DigitsumError
from digitsum.mnist.params import Mnist

TRAIN_IMAGES = "train-images-idx3-ubyte"
TRAIN_LABELS = "train-labels-idx1-ubyte"
TEST_IMAGES = "t10k-images-idx3-ubyte"
TEST_LABELS = "t10k-labels-idx1-ubyte"
Buffer = bytes | NDArray[np.uint8]
FILES = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)


@dataclass(frozen=True)
class RawMnist:
    """MNIST as published: images uint8 [N, 28, 28], labels uint8 [N] in 0-9."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.uint8]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.uint8]


def expected_digests(mnist: Mnist) -> dict[str, str]:
    """Return the SHA-256 digest that each of the four unpacked files must have, by file name."""
    return {
        TRAIN_IMAGES: mnist.train_images_sha256,
        TRAIN_LABELS: mnist.train_labels_sha256,
        TEST_IMAGES: mnist.test_images_sha256,
        TEST_LABELS: mnist.test_labels_sha256,
    }


def parse_idx(content: Buffer, name: str) -> NDArray[np.uint8]:
    """Return the array in an IDX file, uint8, with the shape that its header states.

    Raises DigitsumError if the header is not one of uint8 data or promises another number of bytes than came.
    """
    beginning = bytes(content[: 4 + 4 * 255])  # as long as a header may be
    if len(beginning) < 4 or beginning[:3] != b"\0\0\x08":
        raise DigitsumError(f"{name} is not an IDX file of bytes: it begins with {beginning[:4]!r}")
    start = 4 + 4 * beginning[3]
    if len(content) < start:
        raise DigitsumError(f"{name} is cut off inside its header, after {len(content)} bytes")
    shape = struct.unpack(f">{beginning[3]}I", beginning[4:start])
    if len(content) - start != math.prod(shape):
        raise DigitsumError(
            f"{name} holds {len(content) - start:,} bytes of data, its header promises {math.prod(shape):,}"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def checked_array(name: str, content: Buffer, digest: str) -> NDArray[np.uint8]:
    """Return the array in one of the four files once its digest, shape and label range are found right.

    Raises DigitsumError naming the file and what is wrong with it.
    """
    found = hashlib.sha256(content if isinstance(content, bytes) else content.data).hexdigest()
    if found != digest:
        raise DigitsumError(
            f"{name} is not the file that params.yaml asks for: {len(content):,} bytes with "
            f"SHA-256 {found[:12]}..., expected {digest[:12]}..."
        )
    array = parse_idx(content, name)
    if name in (TRAIN_IMAGES, TEST_IMAGES):
        if array.ndim != 3 or array.shape[1:] != (28, 28):
            raise DigitsumError(f"{name} has shape {array.shape}, expected (N, 28, 28)")
    elif array.ndim != 1:
        raise DigitsumError(f"{name} has shape {array.shape}, expected (N,)")
    elif array.size and array.max() > 9:
        raise DigitsumError(f"{name} holds the label {array.max()}, expected 0-9")
    return array


def read_raw(folder: Path, digests: dict[str, str]) -> RawMnist:
    """Read and check the four files in `folder`.

    Raises DigitsumError if one is missing or wrong, or if images and labels differ in number.
    """
    arrays = {}
    for name in FILES:
        path = folder / name
        if not path.is_file():
            raise DigitsumError(f"{path} is missing; `dvc repro fetch` brings it")
        try:
            arrays[name] = checked_array(name, _mapped(path), digests[name])
        except DigitsumError as error:
            raise DigitsumError(f"{folder}: {error}; `digitsum verify --repair` restores it") from None
    for images, labels in [(TRAIN_IMAGES, TRAIN_LABELS), (TEST_IMAGES, TEST_LABELS)]:
        if len(arrays[images]) != len(arrays[labels]):
            raise DigitsumError(
                f"{folder}: {images} has {len(arrays[images])} images, {labels} has {len(arrays[labels])} labels"
            )
    return RawMnist(*(arrays[name] for name in FILES))


def _mapped(path: Path) -> Buffer:
    """Return the bytes of a file, read when they are used: it may be larger than memory."""
    return np.memmap(path, np.uint8, "c") if path.stat().st_size else b""
