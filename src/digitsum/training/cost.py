"""What a network costs: weights, and operations an image."""

import copy

import torch

from digitsum.model.network import Network


def cost(network: Network) -> dict[str, int]:
    """Return the number of weights, and of floating-point operations to answer for one image.

    A multiplication and its addition are two; PyTorch counts those of convolutions and matrix products.
    """
    from torch.utils.flop_counter import FlopCounterMode  # a third of a second, which only training needs

    answering = copy.deepcopy(network).cpu().eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        answering(torch.zeros(1, 28, 28, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64))
    weights = sum(parameter.numel() for parameter in network.parameters())
    return {"weights": weights, "flop_per_image": counter.get_total_flops()}
