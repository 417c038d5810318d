"""Checkpoints: what a training run that was killed needs to continue and to end with the very same bytes."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from digitsum.core.errors import DigitsumError
from digitsum.data.tensors import load_tensors, save_tensors
from digitsum.training.average import RunningAverage
from digitsum.training.history import EpochResult
from digitsum.training.loss import Scores


@dataclass
class TrainingState:
    """All that decides how a run continues, besides its inputs: random draws follow from the seed, epoch and step.

    `epoch` is in progress; `step` steps of it are done, with these `totals`, float [5], see batch_totals.
    """

    network: nn.Module
    average: RunningAverage
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    totals: Tensor
    epoch: int = 1
    step: int = 0
    results: list[EpochResult] = field(default_factory=list)  # of the epochs that are done

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors of network, average and totals, by name: these themselves, no copies."""
        parts = {
            "network": self.network.state_dict(),
            "average": self.average.tensors(),
            "epoch": {"totals": self.totals},
        }
        return {f"{part}.{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}


class Checkpoint:
    """A file that a run replaces on its way, and from which only a run with the same `key` continues.

    The key stands for all inputs of the run. `interval`: seconds between two saves inside an epoch.
    """

    def __init__(self, path: Path, key: str, interval: float = 60) -> None:
        """Take the file's path; nothing is read or written yet."""
        self.path, self.key, self.interval = path, key, interval
        self._saved_at = time.monotonic()

    def is_due(self) -> bool:
        """Return whether the interval has passed since the last save."""
        return time.monotonic() - self._saved_at >= self.interval

    def save(self, state: TrainingState) -> None:
        """Replace the file, atomically."""
        optimizer = state.optimizer.state_dict()
        moments = {
            f"optimizer.{index}.{name}": tensor
            for index, tensors in optimizer["state"].items()
            for name, tensor in tensors.items()
            if tensor is not None
        }
        progress = {
            "key": self.key,
            "epoch": state.epoch,
            "step": state.step,
            "results": state.results,
            "schedule": state.schedule.state_dict(),
            "param_groups": optimizer["param_groups"],
        }
        save_tensors(self.path, state.tensors() | moments, progress)
        self._saved_at = time.monotonic()

    def restore(self, state: TrainingState) -> None:
        """Bring a run that has not begun to where the file's run was; do nothing without a file with this key.

        Raises DigitsumError if the file is damaged or does not fit.
        """
        if not self.path.exists():
            return
        saved, progress = load_tensors(self.path)
        if progress.get("key") != self.key:
            return
        moments = {name: saved.pop(name) for name in list(saved) if name.startswith("optimizer.")}
        live = state.tensors()
        if {name: (t.shape, t.dtype) for name, t in live.items()} != {n: (t.shape, t.dtype) for n, t in saved.items()}:
            raise DigitsumError(f"{self.path} holds other tensors than this run; delete it and run `dvc repro` again")
        for name, tensor in live.items():
            tensor.copy_(saved[name])
        _restore_optimizer(state.optimizer, moments, progress["param_groups"])
        state.schedule.load_state_dict(progress["schedule"])
        state.epoch, state.step = progress["epoch"], progress["step"]
        state.results = [
            EpochResult(epoch, *(Scores(*scores) for scores in both)) for epoch, *both in progress["results"]
        ]
        print(f"continuing from {self.path}: epoch {state.epoch}, step {state.step}")


def _restore_optimizer(optimizer: torch.optim.Optimizer, moments: dict[str, Tensor], groups: list[Any]) -> None:
    """Load what `save` wrote; each moment gets the strides of its weights, which fused kernels rely on."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in moments.items():
        _, index, key = name.split(".")
        weight = weights[int(index)]
        state.setdefault(int(index), {})[key] = (
            torch.empty_like(weight).copy_(tensor) if tensor.shape == weight.shape else tensor.clone()
        )
    optimizer.load_state_dict({"state": state, "param_groups": groups})
