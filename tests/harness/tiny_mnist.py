"""Tiny data in MNIST's format that a network can learn."""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from digitsum.mnist import idx

DIGEST_KEYS = {
    idx.TRAIN_IMAGES: "train_images_sha256",
    idx.TRAIN_LABELS: "train_labels_sha256",
    idx.TEST_IMAGES: "test_images_sha256",
    idx.TEST_LABELS: "test_labels_sha256",
}


def idx_bytes(array):
    """Return an array as the content of an IDX file of bytes."""
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def tiny_images(labels, seed):
    """Draw images that a network can learn: a bright bar for each digit, at its own place, in noise."""
    draws = np.random.default_rng(seed)
    images = draws.integers(0, 60, (len(labels), 28, 28))
    for image, label in zip(images, labels, strict=True):
        row, column = 4 + 5 * (label % 5), 4 + 12 * (label // 5)
        image[row : row + 3, column : column + 9] += 190
    return images.astype(np.uint8)


@dataclass(frozen=True)
class TinyMnist:
    """A folder that serves as MNIST_MIRROR, and what it holds."""

    folder: Path
    contents: dict[str, bytes]
    digests: dict[str, str]


def split_raw(raw, validation_size=50, pairs_per_image=1, seed=0, training_size=0):
    """Return the three splits of `raw` with these parameters."""
    from digitsum.pairing.pairs import make_splits
    from digitsum.pairing.params import Pair

    return make_splits(raw, Pair(seed, validation_size, training_size, pairs_per_image))
