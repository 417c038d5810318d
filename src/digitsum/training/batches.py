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


class Batch(NamedTuple):
    """B training pairs: pixels float [B, 28, 28] in 0-255, digits and numbers int64 [B], warps float [B, 2, 3].

    warps: affine maps from output to input positions; None in an epoch without warps.
    """

    pixels: Tensor
    digits: Tensor
    numbers: Tensor
    warps: Tensor | None


def batches(split: Split, params: Train, epoch: int, first_step: int, last_step: int) -> Iterator[Batch]:
    """Yield the shuffled batches `first_step` (0 is the first) to `last_step` - 1 of `epoch` (1 is the first).

    Earlier batches cost only their random draws. The last `clean_epochs` have no warps.
    """
    draws = generator("epoch", params.seed, epoch)
    device = split.images.device
    clean = epoch > math.ceil(params.epochs) - params.clean_epochs
    order = torch.randperm(len(split), generator=draws, dtype=torch.int32).to(device)
    step = 0
    for block in order.split(WARPED_AT_ONCE * params.batch_size):
        warps = affine_maps(draw_warps(len(block), draws).to(device), params)
        for pairs, warps_of_batch in zip(block.split(params.batch_size), warps.split(params.batch_size), strict=True):
            redrawn = torch.randint(0, 10, (len(pairs),), generator=draws) if params.redraw_numbers else None
            if step == last_step:
                return
            if step >= first_step:
                images, digits, numbers = split[pairs]
                numbers = numbers if redrawn is None else redrawn.to(device)
                yield Batch(images.float(), digits, numbers, None if clean else warps_of_batch)
            step += 1


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
