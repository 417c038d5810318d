"""Parameters of the network, read by train; a saved model carries them."""

from dataclasses import dataclass

from digitsum.core.params import flag, name


@dataclass(frozen=True)
class Model:
    """What the network is made of."""

    fusion: str = name()
    trunk: str = name()
    deskew: bool = flag()
