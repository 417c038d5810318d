"""Parameters of the paired data, read by pair."""

from dataclasses import dataclass

from digitsum.core.params import whole


@dataclass(frozen=True)
class Pair:
    """Seed, sizes of the splits, numbers an image."""

    seed: int = whole(at_least=0)
    validation_size: int = whole(at_least=0)
    training_size: int = whole(at_least=0)
    pairs_per_image: int = whole(at_least=1)
