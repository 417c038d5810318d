"""Augmentation: one random affine warp an image, drawn on the CPU, made on the device."""

import math

import torch
from torch import Tensor


def draw_warps(count: int, generator: torch.Generator) -> Tensor:
    """Draw what makes `count` warps, float32 [count, 5], each uniform in -1 to 1."""
    return torch.rand(count, 5, generator=generator).mul_(2).sub_(1)


def affine_maps(draws: Tensor, rotation: float, scaling: float, shear: float, translation: float) -> Tensor:
    """Make draws [N, 5] into affine maps, float32 [N, 2, 3], from output to input places as `affine_grid` takes them.

    -1 to 1 become minus to plus the limit: `rotation` in degrees, `scaling` as a part of 1, horizontal `shear` as a
    slope, `translation` in pixels of a 28x28 image, along both axes.
    """
    angle = draws[:, 0] * math.radians(rotation)
    scale = 1 + draws[:, 1] * scaling
    slope = draws[:, 2] * shear
    shift = draws[:, 3:] * (translation / 14)  # affine_grid counts places from -1 to 1: 14 pixels a unit
    cosine, sine = torch.cos(angle) / scale, torch.sin(angle) / scale
    rows = [cosine, cosine * slope - sine, shift[:, 0], sine, sine * slope + cosine, shift[:, 1]]
    return torch.stack(rows, dim=1).view(-1, 2, 3)
