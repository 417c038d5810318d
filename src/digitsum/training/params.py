"""Parameters of training, read by train."""

from dataclasses import dataclass

from digitsum.core.numerics import Compute
from digitsum.core.params import choice, flag, number, seed, whole
from digitsum.model.params import Model

MOST_EPOCHS = 10_000  # days on a GPU; more is a slip


@dataclass(frozen=True)
class Train:
    """Device, schedule, loss and augmentation."""

    device: str = choice("auto", "cpu", "cuda", "mps")
    precision: str = choice("float32", "tf32", "bfloat16")
    compile: bool = flag()
    seed: int = seed()
    epochs: float = number(above=0, at_most=MOST_EPOCHS)
    clean_epochs: int = whole(at_least=0, at_most=MOST_EPOCHS)
    batch_size: int = whole(at_least=2, at_most=60_000)  # MNIST's training images
    shards: int = whole(at_least=1, at_most=60_000)
    redraw_numbers: bool = flag()
    optimizer: str = choice("adamw", "adam", "sgd")
    schedule: str = choice("one_cycle", "constant")
    lr: float = number(above=0, at_most=1e30)  # float32 ends at 3e38; a lower one may diverge, which is an error
    weight_decay: float = number(at_least=0, at_most=1e30)
    softmax_first: bool = flag()
    label_smoothing: float = number(at_least=0, below=1)
    sum_loss_share: float = number(at_least=0, at_most=1)
    average_decay: float = number(at_least=0, below=1)
    rotation: float = number(at_least=0, at_most=180)
    scaling: float = number(at_least=0, below=1)
    shear: float = number(at_least=0, at_most=10)  # a row is then moved by 10 times its height
    translation: float = number(at_least=0, at_most=28)  # out of sight


@dataclass(frozen=True)
class TrainingParams:
    """All parameters that a trained network depends on, but for those of its data."""

    model: Model
    train: Train
    compute: Compute
