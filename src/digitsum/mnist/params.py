"""Parameters of MNIST's files, read by fetch and pair, and of their download, read by fetch."""

from dataclasses import dataclass

from digitsum.core.params import number, sha256


@dataclass(frozen=True)
class Mnist:
    """The SHA-256 of the four unpacked files."""

    train_images_sha256: str = sha256()
    train_labels_sha256: str = sha256()
    test_images_sha256: str = sha256()
    test_labels_sha256: str = sha256()


@dataclass(frozen=True)
class Fetch:
    """How to download."""

    timeout: float = number(above=0, at_most=3600)
