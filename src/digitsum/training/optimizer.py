"""Optimizers and learning-rate schedules, by name."""

import functools
from collections.abc import Callable

import torch
from torch import nn
from torch.optim.lr_scheduler import ConstantLR, LRScheduler, OneCycleLR

from digitsum.training.params import Train

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    # Betas of tuomaso/train_mnist_fast; kept after a comparison on held-out images, see docs/experiments.md.
    "adamw": functools.partial(torch.optim.AdamW, betas=(0.7, 0.9)),
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
}

SCHEDULES: dict[str, Callable[..., LRScheduler]] = {
    "one_cycle": functools.partial(
        # Climbs from a tenth of the highest rate for a fifth of the steps, then falls to a ten-thousandth of it.
        OneCycleLR,
        pct_start=0.2,
        div_factor=10,
        final_div_factor=1000,
        cycle_momentum=False,
    ),
    "constant": lambda optimizer, lr, steps: ConstantLR(optimizer, factor=1.0),
}


def new_optimizer(network: nn.Module, params: Train, steps: int) -> tuple[torch.optim.Optimizer, LRScheduler]:
    """Return the optimizer of `network`'s weights and its learning-rate schedule over `steps` steps."""
    optimizer = OPTIMIZERS[params.optimizer](
        network.parameters(), lr=params.lr, weight_decay=params.weight_decay, fused=True
    )
    return optimizer, SCHEDULES[params.schedule](optimizer, params.lr, steps)
