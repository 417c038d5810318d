"""Parameters of training, read by train."""

from dataclasses import dataclass

from digitsum.core.numerics import Compute
from digitsum.core.params import choice, flag, number, whole
from digitsum.model.params import Model


@dataclass(frozen=True)
class Train:
    """Device, schedule, loss and augmentation."""

    device: str = choice("auto", "cpu", "cuda", "mps")
    precision: str = choice("float32", "tf32", "bfloat16")
    compile: bool = flag()
    seed: int = whole(at_least=0)
    epochs: float = number(above=0)
    clean_epochs: int = whole(at_least=0)
    batch_size: int = whole(at_least=2)
    redraw_numbers: bool = flag()
    optimizer: str = choice("adamw", "adam", "sgd")
    schedule: str = choice("one_cycle", "constant")
    lr: float = number(above=0)
    weight_decay: float = number(at_least=0)
    softmax_first: bool = flag()
    label_smoothing: float = number(at_least=0, below=1)
    sum_loss_share: float = number(at_least=0, at_most=1)
    average_decay: float = number(at_least=0, below=1)
    rotation: float = number(at_least=0)
    scaling: float = number(at_least=0, below=1)
    shear: float = number(at_least=0)
    translation: float = number(at_least=0)


@dataclass(frozen=True)
class TrainingParams:
    """All parameters that a trained network depends on, but for those of its data."""

    model: Model
    train: Train
    compute: Compute
