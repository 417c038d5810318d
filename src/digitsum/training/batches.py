"""The batches of an epoch: their order, numbers and random affine warps, all a function of (seed, epoch)."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from digitsum.data.generators import generator
from digitsum.data.splits import Split
from digitsum.training.params import Train

WARPED_AT_ONCE = 32  # batches whose warps are drawn together: few transfers to a device, and little memory
BLOCK = 256  # pairs, at least, that are neighbours in their file and are read together: 200 kB, so that disks are fast
WINDOW = 1024 * BLOCK  # pairs that are shuffled together: 200 MB of images, so that several workers fit into memory


class Shard(NamedTuple):
    """N training pairs: pixels float [N, 28, 28] in 0-255, digits and numbers int64 [N], warps float [N, 2, 3].

    place: which shard of its batch this is. warps: affine maps from output to input positions; None in an epoch without
    warps.
    """

    place: int
    pixels: Tensor
    digits: Tensor
    numbers: Tensor
    warps: Tensor | None


class Batch(NamedTuple):
    """A batch of `pairs` pairs in `shards` shards, of which `own` are this worker's."""

    epoch: int
    step: int
    pairs: int
    shards: int
    own: list[Shard]


def epoch_steps(pairs: int, params: Train, epoch: int = 1, step: int = 0) -> Iterator[tuple[int, int, int]]:
    """Yield (epoch, first step, last step + 1) from `step` of `epoch` on; the last epoch may be a part of one."""
    steps, all_steps = count_steps(pairs, params)
    for later in range(epoch, math.ceil(params.epochs) + 1):
        first_step = step if later == epoch else 0
        yield later, first_step, min(steps, all_steps - (later - 1) * steps)


def count_steps(pairs: int, params: Train) -> tuple[int, int]:
    """Return the steps of a whole epoch, and of all of training."""
    steps = math.ceil(pairs / params.batch_size)
    return steps, math.ceil(steps * params.epochs)


def batches(
    split: Split, params: Train, epoch: int, first_step: int, last_step: int, worker: int = 0, workers: int = 1
) -> Iterator[Batch]:
    """Yield the shuffled batches `first_step` (0 is the first) to `last_step` - 1 of `epoch` (1 is the first).

    Each has every `workers`-th of its shards, from number `worker` on. Earlier batches cost only their random draws.
    The last `clean_epochs` have no warps.
    """
    draws = generator("epoch", params.seed, epoch)
    device = split.images.device
    clean = epoch > math.ceil(params.epochs) - params.clean_epochs
    step = 0
    for order in windows(len(split), params.batch_size, draws):
        part, end = split, step + math.ceil(len(order) / params.batch_size)
        if len(order) < len(split) and split.is_in_file and first_step < end and step < last_step:
            part, order = split.read(order), torch.arange(len(order))
        for pairs, warps, redrawn in _draw_batches(order.to(device), params, draws):
            if step == last_step:
                return
            if step >= first_step:
                positions = torch.arange(len(pairs), device=device).tensor_split(min(params.shards, len(pairs)))
                own = []
                for place in range(worker, len(positions), workers):
                    chosen = positions[place]
                    images, digits, numbers = part[pairs[chosen]]
                    numbers = numbers if redrawn is None else redrawn.to(device)[chosen]
                    own.append(Shard(place, images.float(), digits, numbers, None if clean else warps[chosen]))
                yield Batch(epoch, step, len(pairs), len(positions), own)
            step += 1


def windows(pairs: int, batch_size: int, draws: torch.Generator) -> Iterator[Tensor]:
    """Yield 0 to `pairs` - 1 in random order, int32, in parts that are whole batches.

    As one part if WINDOW holds them. More are shuffled in two steps, because images in any order cannot be read from a
    file that is larger than memory: blocks of neighbours are shuffled, then the pairs of a window of blocks. The last
    pairs, too few for a block, are in the last window.
    """
    if pairs <= WINDOW:
        yield torch.randperm(pairs, generator=draws, dtype=torch.int32)
        return
    block = math.ceil(BLOCK / batch_size) * batch_size
    chosen = torch.randperm(pairs // block, generator=draws, dtype=torch.int32).split(WINDOW // block)
    for number, blocks in enumerate(chosen, start=1):
        window = (blocks.unsqueeze(1) * block + torch.arange(block, dtype=torch.int32)).flatten()
        if number == len(chosen):
            window = torch.cat([window, torch.arange(pairs // block * block, pairs, dtype=torch.int32)])
        yield window[torch.randperm(len(window), generator=draws)]


def _draw_batches(
    order: Tensor, params: Train, draws: torch.Generator
) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Yield for each batch of `order` its pairs, their warps, and their numbers if these are drawn again."""
    for block in order.split(WARPED_AT_ONCE * params.batch_size):
        warps = affine_maps(draw_warps(len(block), draws).to(order.device), params)
        for pairs, warps_of_batch in zip(block.split(params.batch_size), warps.split(params.batch_size), strict=True):
            redrawn = torch.randint(0, 10, (len(pairs),), generator=draws) if params.redraw_numbers else None
            yield pairs, warps_of_batch, redrawn


def draw_warps(count: int, generator: torch.Generator) -> Tensor:
    """Draw five values for each of `count` warps: float32 [count, 5], each uniform in -1 to 1."""
    return torch.rand(count, 5, generator=generator).mul_(2).sub_(1)


def affine_maps(draws: Tensor, params: Train) -> Tensor:
    """Turn draws [N, 5] into affine maps, float32 [N, 2, 3], from output to input positions as in `affine_grid`.

    -1 to 1 become minus to plus a limit of `params`: rotation in degrees, scaling as a part of 1, horizontal shear as a
    slope, translation in pixels of a 28x28 image, along both axes.
    """
    angle = draws[:, 0] * math.radians(params.rotation)
    scale = 1 + draws[:, 1] * params.scaling
    slope = draws[:, 2] * params.shear
    shift = draws[:, 3:] * (params.translation / 14)  # affine_grid's positions go from -1 to 1: 14 pixels a unit
    cosine, sine = torch.cos(angle) / scale, torch.sin(angle) / scale
    rows = [cosine, cosine * slope - sine, shift[:, 0], sine, sine * slope + cosine, shift[:, 1]]
    return torch.stack(rows, dim=1).view(-1, 2, 3)
