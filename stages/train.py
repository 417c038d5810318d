"""Stage train: train the network on the training split, scored on validation after every epoch."""

from pathlib import Path

import torch

from digitsum.core.numerics import Compute
from digitsum.core.runner import Stage
from digitsum.data.splits import load_split
from digitsum.model.network import Network, save_model
from digitsum.model.params import Model
from digitsum.training.checkpoint import Checkpoint
from digitsum.training.cost import cost
from digitsum.training.devices import choose_device, device_name
from digitsum.training.history import EpochResult, print_epoch, write_history
from digitsum.training.loop import train_network
from digitsum.training.params import Train, TrainingParams
from digitsum.training.workers import start_workers


def main(stage: Stage) -> None:
    """Read two splits; train, or continue from a checkpoint; write the history every epoch, the model at the end."""
    params = TrainingParams(stage.params(Model), stage.params(Train), stage.params(Compute))
    device = choose_device(params.train.device)
    training = load_split(Path("data/paired/train.safetensors"))
    validation = load_split(Path("data/paired/validation.safetensors"))
    costs = cost(Network(params.model))
    trained: dict[str, str | int] = {
        "device": device_name(device),
        "numerics": params.compute.numerics,
        "shards": params.train.shards,
        "calibrated_on": "nothing" if validation.is_test else f"{len(validation):,} validation pairs",
        "torch": torch.__version__.partition("+")[0],
    }
    print(
        f"training on {trained['device']}: fusion {params.model.fusion}, {costs['weights']:,} weights, "
        f"{len(training):,} pairs"
    )

    def report(history: list[EpochResult]) -> None:
        write_history(Path("plots/training.csv"), Path("metrics/train.json"), history, costs)
        print_epoch(history[-1], params.train.epochs)

    key = stage.digest(repr(trained))
    checkpoint = Checkpoint(stage.checkpoints(key) / "train.safetensors", key)
    with start_workers(params.train.shards, device) as workers:
        network, _ = train_network(params, training, validation, device, workers, checkpoint, on_epoch=report)
    save_model(Path("models/digitsum.safetensors"), network, **trained)
