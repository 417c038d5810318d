"""The network with each batch normalisation folded into the convolution before it: the same answers, less time."""

import copy
from collections.abc import Iterator
from typing import cast

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from digitsum.model.network import Network


def folded(network: Network) -> Network:
    """Return a copy in eval mode whose convolutions have a bias and no batch normalisation."""
    network = copy.deepcopy(network).eval()
    for block in network.trunk.embed:
        match [*block.children()]:
            case [nn.Conv2d() as convolution, *_, nn.BatchNorm2d() as normalisation, nn.ReLU()]:
                block = cast(nn.Sequential, block)  # maxima between them commute with a positive scale: see conv_block
                block[0], block[-2] = fuse_conv_bn_eval(convolution, normalisation), nn.Identity()
    return network.to(memory_format=torch.channels_last)


def layers_of(sequence: nn.Module) -> Iterator[nn.Module]:
    """Yield the layers in a sequence of layers and sequences, in order, but for those that change nothing."""
    for layer in sequence.children():
        if isinstance(layer, nn.Sequential):
            yield from layers_of(layer)
        elif not isinstance(layer, nn.Identity):
            yield layer
