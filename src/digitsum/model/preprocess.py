"""Preprocessing: affine maps that centre and deskew an image, and resampling, once, through such a map.

By hand, because torchvision's affine transforms take one map for a whole batch, and `affine_grid` is slower.
"""

import torch
from torch import Tensor
from torch.nn import functional

SIDE = 28  # pixels of MNIST's images, along each axis


def identity_maps(images: Tensor) -> Tensor:
    """Return maps that change nothing, float [N, 2, 3], for float images [N, 28, 28]."""
    return torch.eye(2, 3, device=images.device).expand(images.shape[0], 2, 3)


def deskew_maps(images: Tensor) -> Tensor:
    """Return maps [N, 2, 3] that centre float images [N, 28, 28] and shear away their slant.

    From moments: the centre of mass goes to the middle, and x is sheared along y by their covariance over the
    variance of y, at most by 1 ("deskewing", as in LeCun et al. 1998, Gradient-based learning applied to document
    recognition). Slant is most of what differs between writers: a network that need not learn it learns faster.
    """
    position = torch.arange(SIDE, dtype=images.dtype, device=images.device) - (SIDE - 1) / 2
    y, x = position.repeat_interleave(SIDE), position.repeat(SIDE)
    powers = torch.stack([torch.ones_like(x), x, y, x * y, y * y], dim=1)
    # 1/100 of a grey level everywhere, so that a black image has a centre of mass as well.
    mass, *moments = ((images.flatten(1) + 0.01) @ powers).unbind(dim=1)
    mean_x, mean_y, mean_xy, mean_yy = (moment / mass for moment in moments)
    slant = ((mean_xy - mean_x * mean_y) / (mean_yy - mean_y**2)).clamp(-1, 1)
    zero, one = torch.zeros_like(slant), torch.ones_like(slant)
    half = SIDE / 2  # affine_grid's positions go from -1 to 1
    return torch.stack([one, slant, mean_x / half, zero, one, mean_y / half], dim=1).view(-1, 2, 3)


def compose(first: Tensor, second: Tensor) -> Tensor:
    """Return the maps [N, 2, 3] of the images that `first` gives, resampled through `second`; both [N, 2, 3]."""
    linear, shift = first[:, :, :2], first[:, :, 2:]
    return torch.cat([linear @ second[:, :, :2], linear @ second[:, :, 2:] + shift], dim=2)


def resample(images: Tensor, maps: Tensor, side: int = SIDE) -> Tensor:
    """Sample float images [N, 28, 28] through `maps` [N, 2, 3]; return the middle, float [N, side, side].

    Maps go from output to input positions as in `affine_grid`. One matrix product makes the positions of the whole
    batch, with the bits of `affine_grid`, which multiplies image by image. Bilinear, with background 0 around.
    """
    # Not times a tensor of three numbers: a GPU would wait for their copy.
    middle = torch.cat([maps[:, :, :2] * (side / SIDE), maps[:, :, 2:]], dim=2)
    position = torch.linspace(-1, 1, side, device=maps.device) * (side - 1) / side
    positions = torch.stack(
        [position.repeat(side), position.repeat_interleave(side), torch.ones_like(position).repeat(side)]
    )
    grid = (middle.reshape(-1, 3) @ positions).view(-1, 2, side, side).permute(0, 2, 3, 1)
    return functional.grid_sample(images.unsqueeze(1), grid, align_corners=False).squeeze(1)
