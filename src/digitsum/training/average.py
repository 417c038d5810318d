"""The running average of the weights, which becomes the model."""

import copy

import torch
from torch import Tensor

from digitsum.model.network import Network

WARM_UP = 10  # steps in which the average keeps less, or a short training would keep its initial weights


class RunningAverage:
    """A copy of a network that follows it: its weights and statistics are running averages of the network's.

    It keeps `decay` of itself a step, and less in the first ones: at step n (1 + n) / (10 + n), as TensorFlow's
    ExponentialMovingAverage does, until that exceeds `decay`. PyTorch's AveragedModel would make a GPU wait every step.
    """

    def __init__(self, network: Network, decay: float) -> None:
        """Begin with the network as it is. It must stay on its device: its tensors are followed."""
        self.network, self.decay = copy.deepcopy(network), decay
        self.steps = torch.zeros((), dtype=torch.int64)  # on the CPU; a tensor, for checkpoints
        pairs = list(zip(self.network.state_dict().values(), network.state_dict().values(), strict=True))
        self._floats = [pair for pair in pairs if pair[0].is_floating_point()]
        self._counts = [pair for pair in pairs if not pair[0].is_floating_point()]  # of batch normalisation

    def update(self) -> None:
        """Follow the network by one step; the first one copies it."""
        steps = int(self.steps)
        kept = min(self.decay, (1 + steps) / (WARM_UP + steps)) if steps else 0.0
        averages, currents = (list(tensors) for tensors in zip(*self._floats, strict=True))
        torch._foreach_lerp_(averages, currents, 1 - kept)
        for average, current in self._counts:
            average.copy_(current)
        self.steps += 1

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that continue the average, by name: these themselves, no copies."""
        return {**self.network.state_dict(), "steps": self.steps}
