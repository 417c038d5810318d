"""Checkpoints: what a training run that was killed needs to go on, and to end with the very same bytes."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from digitsum.errors import DigitsumError
from digitsum.tensors import load_tensors, save_tensors


@dataclass
class TrainingState:
    """All that decides how a run goes on, but for its inputs: the randomness of an epoch follows from its seed.

    `epoch` is under way, and `step` steps of it are done, on `pairs` pairs with these `totals`: see batch_totals.
    """

    network: nn.Module
    averaged: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    totals: Tensor
    epoch: int = 1
    step: int = 0
    pairs: int = 0
    results: list[Any] = field(default_factory=list)  # of the epochs that are done

    def start_epoch(self, epoch: int) -> None:
        """Count from the first step of `epoch`."""
        self.epoch, self.step, self.pairs = epoch, 0, 0
        self.totals.zero_()

    def tensors(self) -> dict[str, Tensor]:
        """Give the tensors that training changes, by name: these themselves, no copies."""
        parts = {
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "epoch": {"totals": self.totals},
            **{f"optimizer.{place}": state for place, state in self.optimizer.state_dict()["state"].items()},
        }
        named = {f"{part}.{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}
        return {name: tensor for name, tensor in named.items() if tensor is not None}


class Checkpoint:
    """A file that a run replaces as it goes, and from which only a run with the same `key` goes on.

    The key stands for all inputs of the run. `interval`: seconds between two savings inside an epoch.
    """

    def __init__(self, path: Path, key: str, interval: float = 60) -> None:
        """Take the file's path; nothing is read or written yet."""
        self.path, self.key, self.interval = path, key, interval
        self._saved_at = time.monotonic()

    def is_due(self) -> bool:
        """Say whether the interval has passed since the last saving."""
        return time.monotonic() - self._saved_at >= self.interval

    def save(self, state: TrainingState) -> None:
        """Replace the file, atomically."""
        progress = {
            "key": self.key,
            "epoch": state.epoch,
            "step": state.step,
            "pairs": state.pairs,
            "results": state.results,
            "schedule": state.schedule.state_dict(),
        }
        save_tensors(self.path, state.tensors() | {"random": torch.get_rng_state()}, progress)
        self._saved_at = time.monotonic()

    def restore(self, state: TrainingState) -> Tensor | None:
        """Bring a run that has not begun to where the file's run was; give the state of torch's global generator.

        Gives None if there is no file, or one with another key. Raises DigitsumError if the file is damaged.
        """
        if not self.path.exists():
            return None
        saved, progress = load_tensors(self.path)
        if progress.get("key") != self.key:
            return None
        for place, parameter in enumerate(state.network.parameters()):
            if f"optimizer.{place}.step" in saved:  # nothing is kept of weights that are not used, nor by SGD
                state.optimizer.state[parameter] = {  # as Adam's first step makes it; with the strides of the weights
                    "step": torch.zeros((), device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        random = saved.pop("random", torch.empty(0))
        live = state.tensors()
        if {name: (t.shape, t.dtype) for name, t in live.items()} != {n: (t.shape, t.dtype) for n, t in saved.items()}:
            raise DigitsumError(f"{self.path} holds other tensors than this run; delete it and run `dvc repro` again")
        for name, tensor in live.items():
            tensor.copy_(saved[name])
        state.epoch, state.step, state.pairs = progress["epoch"], progress["step"], progress["pairs"]
        state.results = progress["results"]
        state.schedule.load_state_dict(progress["schedule"])
        for group, rate in zip(state.optimizer.param_groups, state.schedule.get_last_lr(), strict=True):
            group["lr"] = rate
        print(f"going on from {self.path}: epoch {state.epoch}, step {state.step}")
        return random

    def delete(self) -> None:
        """Remove the file, if it is there: the run has succeeded."""
        self.path.unlink(missing_ok=True)
