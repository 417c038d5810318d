"""Short training runs on tiny data."""

from dataclasses import replace

import torch
from harness.project import ROOT

from digitsum.core.numerics import Compute
from digitsum.core.params import read_values, to_group
from digitsum.model.params import Model
from digitsum.training.loop import train_network
from digitsum.training.params import Train, TrainingParams

CPU = torch.device("cpu")


def settings(**changes):
    """Return the training parameters of params.yaml, made small, with some changed."""
    small = {"epochs": 2, "batch_size": 50, "translation": 1.0, "rotation": 3.0}
    return replace(to_group(Train, read_values(ROOT)), **{**small, **changes})


def train(splits, fusion="shift", trunk="strided", checkpoint=None, device=CPU, **changes):
    """Train a network; return it and the results of its epochs."""
    params = TrainingParams(Model(fusion, trunk, deskew=True), settings(**changes), Compute("portable", threads=1))
    return train_network(params, splits["train"], splits["validation"], device, checkpoint)


def weights_of(network):
    """Return all weights and buffers as one float tensor."""
    return torch.cat([tensor.flatten().float() for tensor in network.state_dict().values()])
