"""Parameters of the paired data, read by pair."""

from dataclasses import dataclass

from digitsum.core.params import seed, whole

MNIST = 60_000  # training images


@dataclass(frozen=True)
class Pair:
    """Seed, sizes of the splits, numbers an image."""

    seed: int = seed()
    validation_size: int = whole(at_least=0, at_most=MNIST)
    training_size: int = whole(at_least=0, at_most=MNIST)
    pairs_per_image: int = whole(at_least=1, at_most=1000)  # at 200, making the files takes 1.7 GB of memory
