"""Views: an image seen through an affine map, upright and in the middle, sampled once."""

import torch
from torch import Tensor
from torch.nn import functional

SIDE = 28  # pixels of MNIST's images, along each axis


def same(images: Tensor) -> Tensor:
    """Give the maps that change nothing, float [N, 2, 3], for float images [N, 28, 28]."""
    return torch.eye(2, 3, device=images.device).expand(len(images), 2, 3)


def upright(images: Tensor) -> Tensor:
    """Give the maps [N, 2, 3] that centre float images [N, 28, 28] and shear away their slant.

    From moments: the centre of mass goes to the middle, and x is sheared along y by their covariance over the
    variance of y, at most by 1 ("deskewing", as in LeCun et al. 1998, Gradient-based learning applied to document
    recognition). Most of what makes hands differ is slant: a network that need not learn it learns faster.
    """
    place = torch.arange(SIDE, dtype=images.dtype, device=images.device) - (SIDE - 1) / 2
    y, x = place.repeat_interleave(SIDE), place.repeat(SIDE)
    powers = torch.stack([torch.ones_like(x), x, y, x * y, y * y], dim=1)
    # A faint even light, 1/100 of a grey level, so that a black image has a middle as well.
    mass, *moments = ((images.flatten(1) + 0.01) @ powers).unbind(dim=1)
    mean_x, mean_y, mean_xy, mean_yy = (moment / mass for moment in moments)
    slant = ((mean_xy - mean_x * mean_y) / (mean_yy - mean_y**2)).clamp(-1, 1)
    zero, one = torch.zeros_like(slant), torch.ones_like(slant)
    half = SIDE / 2  # affine_grid counts places from -1 to 1
    return torch.stack([one, slant, mean_x / half, zero, one, mean_y / half], dim=1).view(-1, 2, 3)


def after(first: Tensor, second: Tensor) -> Tensor:
    """Give the maps that look through `second` at what `first` shows; all [N, 2, 3]."""
    linear, shift = first[:, :, :2], first[:, :, 2:]
    return torch.cat([linear @ second[:, :, :2], linear @ second[:, :, 2:] + shift], dim=2)


def look(images: Tensor, maps: Tensor, side: int = SIDE) -> Tensor:
    """See float images [N, 28, 28] through maps [N, 2, 3]: the middle `side` x `side` pixels, float [N, side, side].

    Maps go from output to input places as in `affine_grid`, which would multiply image by image: the bits are the same,
    the time is not. Bilinear, with background 0 around.
    """
    middle = maps * maps.new_tensor([side / SIDE, side / SIDE, 1])
    place = torch.linspace(-1, 1, side, device=maps.device) * (side - 1) / side
    places = torch.stack([place.repeat(side), place.repeat_interleave(side), torch.ones_like(place).repeat(side)])
    grid = (middle.reshape(-1, 3) @ places).view(-1, 2, side, side).permute(0, 2, 3, 1)
    return functional.grid_sample(images.unsqueeze(1), grid, align_corners=False).squeeze(1)
