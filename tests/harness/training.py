"""Short training runs on tiny data."""

from dataclasses import replace

import torch
from harness.project import ROOT

from digitsum.core.files import read_yaml
from digitsum.core.numerics import Compute
from digitsum.core.params import to_group
from digitsum.model.network import Network
from digitsum.model.params import Model
from digitsum.training.loop import train_network
from digitsum.training.params import Train, TrainingParams

CPU = torch.device("cpu")


def settings(**changes):
    """Return the training parameters of params.yaml, made small, with some changed."""
    small = {"epochs": 2, "batch_size": 50, "shards": 1, "translation": 1.0, "rotation": 3.0}
    return replace(to_group(Train, read_yaml(ROOT / "params.yaml")), **{**small, **changes})


def train(splits, fusion="shift", trunk="strided", checkpoint=None, device=CPU, workers=None, **changes):
    """Train a network; return it and the results of its epochs."""
    params = TrainingParams(Model(fusion, trunk, deskew=True), settings(**changes), Compute("portable"))
    return train_network(params, splits["train"], splits["validation"], device, workers, checkpoint)


def weights_of(network):
    """Return all weights and buffers as one float tensor."""
    return torch.cat([tensor.flatten().float() for tensor in network.state_dict().values()])


def make_network(fusion="shift", pixel_mean=0.0, pixel_std=1.0, trunk="strided", deskew=True):
    """Return a network with initial weights."""
    return Network(Model(fusion, trunk, deskew), pixel_mean, pixel_std)
