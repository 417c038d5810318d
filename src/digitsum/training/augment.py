"""Augmentation: one random affine warp an image, drawn for a whole epoch and applied to a batch at once."""

import math

import torch
from torch import Tensor
from torch.nn import functional


def random_affine(
    count: int, rotation: float, scaling: float, shear: float, translation: float, generator: torch.Generator
) -> Tensor:
    """Draw `count` affine maps, float32 [count, 2, 3], from output to input places as `affine_grid` takes them.

    Each quantity is uniform between minus and plus its limit: `rotation` in degrees, `scaling` as a part of
    1, horizontal `shear` as a slope, `translation` in pixels of a 28x28 image, along both axes.
    """
    draws = torch.rand(count, 5, generator=generator) * 2 - 1
    angle = draws[:, 0] * math.radians(rotation)
    scale = 1 + draws[:, 1] * scaling
    slope = draws[:, 2] * shear
    shift = draws[:, 3:] * (translation / 14)  # affine_grid counts places from -1 to 1: 14 pixels a unit
    cosine, sine = torch.cos(angle) / scale, torch.sin(angle) / scale
    rows = [cosine, cosine * slope - sine, shift[:, 0], sine, sine * slope + cosine, shift[:, 1]]
    return torch.stack(rows, dim=1).view(count, 2, 3)


def warp(images: Tensor, maps: Tensor) -> Tensor:
    """Warp float images [N, 28, 28] by affine maps [N, 2, 3], bilinear, with background 0 around."""
    planes = images.unsqueeze(1)
    grid = functional.affine_grid(maps, list(planes.shape), align_corners=False)
    return functional.grid_sample(planes, grid, align_corners=False).squeeze(1)
