"""Stage train: train the network on the training split, watching validation."""

from pathlib import Path

import torch

from digitsum.data.splits import load_split
from digitsum.model.network import cost, new_network, save_model
from digitsum.numerics import compute_with
from digitsum.params import load_params
from digitsum.stage import inputs_digest, run_stage
from digitsum.training.checkpoint import Checkpoint
from digitsum.training.devices import choose_device
from digitsum.training.history import write_history
from digitsum.training.loop import fit


def main() -> None:
    """Read two splits; train, or go on from a checkpoint; write the history every epoch, the model at the end."""
    params = load_params("train")
    compute_with(params.train.numerics, params.train.threads)
    device = choose_device(params.train.device)
    training = load_split(Path("data/paired/train.safetensors"))
    validation = load_split(Path("data/paired/validation.safetensors"))
    torch.manual_seed(params.train.seed)  # for the initial weights
    network = new_network(params.model, training)
    costs = cost(network)
    trained: dict[str, str | int] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "numerics": params.train.numerics,
        "threads": params.train.threads,
        "torch": torch.__version__.partition("+")[0],
    }
    print(
        f"training on {trained['device']}: fusion {params.model.fusion}, {costs['weights']:,} weights, "
        f"{len(training):,} pairs"
    )

    checkpoint = Checkpoint(Path("checkpoints/train.safetensors"), inputs_digest("train", repr(trained)))
    history = []
    for result in fit(network, training, validation, params.train, device, checkpoint):
        history.append(result)
        write_history(Path("plots/training.csv"), Path("metrics/train.json"), history, costs)
        print(
            f"epoch {result.epoch:2}/{params.train.epochs:g}  loss {result.training.loss:.4f}  "
            f"validation: loss {result.validation.loss:.4f}  digit {result.validation.digit_accuracy:.2%}  "
            f"sum {result.validation.sum_accuracy:.2%}",
            flush=True,
        )
    save_model(Path("models/digitsum.safetensors"), network, **trained)
    checkpoint.delete()


if __name__ == "__main__":
    run_stage("train", main)
