"""CUDA graphs: what a GPU does for a shard is recorded once for each shape, and replayed.

A shard takes a few hundred small kernels, which a CPU launches more slowly than a GPU runs them. Replayed they give the
same bits in a third to a seventh of the time, see benchmarks/README.md.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from digitsum.training.batches import Shard

Function = Callable[[Shard, int], Tensor]
WARM_UP = 3  # runs before a recording, in which libraries choose their kernels and allocate memory


class Recorder:
    """Computes functions of a shard and of the number of pairs in its batch on a GPU, by replaying what it recorded."""

    def __init__(self, buffers: Sequence[Tensor]) -> None:
        """Take the `buffers` that a function changes: a recording leaves them as they were.

        No function is kept. One of the object that has this recorder would be a reference cycle, and the graphs in it
        would be freed at any later time, also while others are recorded, which CUDA does not permit.
        """
        self.buffers = buffers
        self.graphs: dict[tuple[int, int, bool], tuple[torch.cuda.CUDAGraph, Shard, Tensor]] = {}

    def __call__(self, function: Function, shard: Shard, pairs: int) -> Tensor:
        """Return what `function` returns, which must always be the same one."""
        shape = (len(shard.digits), pairs, shard.warps is None)
        if shape not in self.graphs:
            self.graphs[shape] = self._record(function, shard, pairs)
        graph, inputs, output = self.graphs[shape]
        for own, given in zip(_tensors(inputs), _tensors(shard), strict=True):
            own.copy_(given)
        graph.replay()
        return output.clone()  # the next replay overwrites it

    def _record(self, function: Function, shard: Shard, pairs: int) -> tuple[torch.cuda.CUDAGraph, Shard, Tensor]:
        before = [buffer.clone() for buffer in self.buffers]
        warps = None if shard.warps is None else shard.warps.clone()
        inputs = Shard(shard.place, shard.pixels.clone(), shard.digits.clone(), shard.numbers.clone(), warps)
        stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
        with torch.random.fork_rng(devices=[shard.pixels.device]):  # layers such as dropout draw
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(WARM_UP):
                    function(inputs, pairs)
            torch.cuda.current_stream().wait_stream(stream)
            with torch.cuda.graph(graph):
                output = function(inputs, pairs)
        for buffer, value in zip(self.buffers, before, strict=True):
            buffer.copy_(value)
        return graph, inputs, output


def _tensors(shard: Shard) -> list[Tensor]:
    return [part for part in shard if isinstance(part, Tensor)]
