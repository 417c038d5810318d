"""Shards: a batch is computed in parts of fixed size, whose gradients are added in a fixed order.

Sums of floats depend on how they are grouped. Here the groups are a parameter, `train.shards`, and not the number of
cores, processes or machines at work. Each shard is normalised by its own mean and variance (ghost batch normalisation,
Hoffer et al., arXiv 1705.08741).
"""

import functools

import torch
from torch import Tensor, nn

from digitsum.data.generators import seed_layers
from digitsum.model.network import Network
from digitsum.training.batches import Batch, Shard
from digitsum.training.devices import compiled, set_precision
from digitsum.training.graphs import Recorder
from digitsum.training.loss import batch_totals, pair_losses
from digitsum.training.params import Train

TOTALS = 5  # of a batch, see batch_totals


class ShardedNetwork:
    """A network whose gradients are computed shard by shard."""

    def __init__(self, network: Network, params: Train) -> None:
        """Take the network on its device, and set the precision of PyTorch's products."""
        self.network, self.params = network, params
        self.precision = set_precision(params.precision)
        self.forward = compiled(network.forward_pixels) if params.compile else network.forward_pixels
        replays = next(network.parameters()).is_cuda and not params.compile
        self.recorder = Recorder(list(network.buffers())) if replays else None
        self.norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        self.parameters = list(network.parameters())
        self.statistics = [
            buffer for norm in self.norms for buffer in (norm.running_mean, norm.running_var) if buffer is not None
        ]

    def weights(self) -> Tensor:
        """Return parameters and running statistics as one vector, float [W]."""
        with torch.no_grad():
            return torch.cat([tensor.flatten() for tensor in (*self.parameters, *self.statistics)])

    def set_weights(self, weights: Tensor) -> None:
        """Set parameters and running statistics from a vector as `weights` returns it."""
        with torch.no_grad():
            for tensor, part in zip((*self.parameters, *self.statistics), self._split(weights), strict=True):
                tensor.copy_(part.view(tensor.shape))

    def gradients(self, batch: Batch) -> Tensor:
        """Return a row for each of this worker's shards, float [K, W + 5]: gradients, running statistics, totals."""
        start = [statistic.clone() for statistic in self.statistics]
        rows = []
        for shard in batch.own:
            for statistic, value in zip(self.statistics, start, strict=True):
                statistic.copy_(value)
            seed_layers(shard.pixels.device, "layers", self.params.seed, batch.epoch, batch.step, shard.place)
            if self.recorder:
                rows.append(self.recorder(self._compute, shard, batch.pairs))
            else:
                rows.append(self._compute(shard, batch.pairs))
        for norm in self.norms:
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked.add_(1 - len(rows))  # a step counts once
        return torch.stack(rows)

    def _compute(self, shard: Shard, pairs: int) -> Tensor:
        params = self.params
        digit_logits, sum_logits = self.forward(shard.pixels, shard.numbers, shard.warps, self.precision)
        losses = pair_losses(digit_logits, sum_logits, shard.digits, shard.numbers, params)
        self.network.zero_grad()
        mean_loss = torch.lerp(*losses, params.sum_loss_share)  # see mean_scores
        (mean_loss * (len(shard.digits) / pairs)).backward()
        totals = batch_totals(digit_logits, sum_logits, shard.digits, shard.numbers, losses)
        parts = [*(_gradient(parameter) for parameter in self.parameters), *self.statistics, totals]
        return torch.cat([part.flatten() for part in parts])

    def apply(self, gradients: Tensor) -> Tensor:
        """Add the rows of `gradients`, float [S, W + 5], in order; set gradients and statistics; return the totals."""
        summed = functools.reduce(torch.add, gradients)
        weights, totals = summed[:-TOTALS], summed[-TOTALS:]
        parts = self._split(weights)
        with torch.no_grad():
            for parameter, part in zip(self.parameters, parts, strict=False):
                _gradient(parameter).copy_(part.view(parameter.shape))
            for statistic, part in zip(self.statistics, parts[len(self.parameters) :], strict=True):
                statistic.copy_(part.view(statistic.shape) / len(gradients))
        return totals

    def _split(self, weights: Tensor) -> tuple[Tensor, ...]:
        return weights.split([tensor.numel() for tensor in (*self.parameters, *self.statistics)])


def _gradient(parameter: nn.Parameter) -> Tensor:
    if parameter.grad is None:  # it has no part in the loss
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad
