"""The IDX files are believed only when everything about them is right."""

import hashlib
import struct

import numpy as np
import pytest
import torch
from harness.tiny_mnist import idx_bytes
from torchvision.datasets.mnist import read_sn3_pascalvincent_tensor

from digitsum.core.errors import DigitsumError
from digitsum.mnist import idx


def test_arrays_are_those_that_torchvision_reads(tiny_mnist, tmp_path):
    for name, content in tiny_mnist.contents.items():
        (tmp_path / name).write_bytes(content)
        theirs = read_sn3_pascalvincent_tensor(str(tmp_path / name))
        assert torch.equal(torch.from_numpy(idx.parse_idx(content, name).copy()), theirs)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not an IDX file"),
        (b"<html>404</html>", "is not an IDX file"),
        (b"\0\0\x0d\x01" + bytes(8), "is not an IDX file of bytes"),
        (b"\0\0\x08\x03" + struct.pack(">I", 5), "cut off inside its header"),
        (idx_bytes(np.zeros((5, 28, 28), np.uint8))[:-1], r"holds 3,919 bytes of data, its header promises 3,920"),
        (b"\0\0\x08\x03" + struct.pack(">3I", 2**31, 28, 28), r"header promises 1,683,627,180,032"),
    ],
)
def test_a_file_that_is_not_whole_is_refused(content, reason):
    with pytest.raises(DigitsumError, match=reason):
        idx.parse_idx(content, "file")


@pytest.mark.parametrize(
    ("name", "array", "reason"),
    [
        (idx.TRAIN_LABELS, np.array([1, 200], np.uint8), "holds the label 200, expected 0-9"),
        (idx.TRAIN_LABELS, np.zeros((2, 2), np.uint8), r"has shape \(2, 2\), expected \(N,\)"),
        (idx.TEST_IMAGES, np.zeros((2, 27, 28), np.uint8), r"has shape \(2, 27, 28\), expected \(N, 28, 28\)"),
    ],
)
def test_shape_and_label_range_are_checked_even_if_the_digest_is_right(name, array, reason):
    content = idx_bytes(array)
    with pytest.raises(DigitsumError, match=reason):
        idx.checked_array(name, content, hashlib.sha256(content).hexdigest())


def test_images_and_labels_must_be_as_many(tiny_mnist, tmp_path):
    labels = idx_bytes(np.zeros(7, np.uint8))
    for name, content in {**tiny_mnist.contents, idx.TEST_LABELS: labels}.items():
        (tmp_path / name).write_bytes(content)
    digests = {**tiny_mnist.digests, idx.TEST_LABELS: hashlib.sha256(labels).hexdigest()}
    with pytest.raises(DigitsumError, match="t10k-images-idx3-ubyte has 100 images, t10k-labels-idx1-ubyte has 7"):
        idx.read_raw(tmp_path, digests)
