"""A trial: pair, train and score in memory, with some parameters changed. A study is many of them.

    python ../run.py studies.trial trials/logits-1.json train.softmax_first=false train.seed=1    # in a study's folder

Besides the scores it writes the curves of training, if a .csv file is named as well.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor

from digitsum.core.files import write_json
from digitsum.mnist.idx import expected_digests, read_raw
from digitsum.pairing.pairs import make_splits
from digitsum.evaluation.metrics import headline_metrics
from digitsum.evaluation.predict import predict, right_with_all_numbers, score_all_numbers, see_images
from digitsum.model.network import new_network
from digitsum.core.numerics import compute_with
from digitsum.core.params import declared_path, load_params
from digitsum.core.runner import current_stage, inputs_digest, run_stage
from digitsum.training.checkpoint import Checkpoint
from digitsum.training.devices import choose_device
from digitsum.training.history import write_curves
from digitsum.training.loop import fit

STAGE = current_stage() or "trial"


def main() -> None:
    """Read MNIST; do what the stages pair, train and evaluate do; write the scores."""
    changes = [argument for argument in sys.argv[1:] if "=" in argument]
    outputs = [Path(argument) for argument in sys.argv[1:] if "=" not in argument]
    params = load_params(STAGE, changes=changes)
    compute_with(params.train.numerics, params.train.threads)
    device, pair = choose_device(params.train.device), params.pair
    raw = read_raw(declared_path(STAGE, "data/raw"), expected_digests(params.fetch))
    splits = make_splits(raw, pair.validation_size, pair.pairs_per_image, pair.seed, pair.training_size)
    torch.manual_seed(params.train.seed)  # for the initial weights
    network = new_network(params.model, splits["train"])
    checkpoint = Checkpoint(Path("checkpoints/trial.safetensors"), inputs_digest(STAGE, *changes, torch.__version__))
    history = []
    for result in fit(network, splits["train"], splits["validation"], params.train, device, checkpoint):
        history.append(result)
        print(f"epoch {result.epoch:2}  loss {result.training.loss:.4f}", flush=True)
    test = splits["test"]
    evidence = see_images(network.cpu(), test.images)
    predictions, all_numbers = predict(network, test, evidence), score_all_numbers(network, test, evidence)
    scores = headline_metrics(predictions, all_numbers, params.evaluate.calibration_bins)
    more = {
        "weights": sum(weights.numel() for weights in network.parameters()),
        "sums_right": by_digit(right_with_all_numbers(network, test, evidence)[0], test.digits),
    }
    for output in outputs:
        if output.suffix == ".csv":
            write_curves(output, history)
        else:
            write_json(output, scores | more)
    checkpoint.delete()
    print("  ".join(f"{name} {scores[name]['accuracy']:.2%}" for name in ("digit", "sum", "joint")))


def by_digit(rights: Tensor, digits: Tensor) -> list[list[float]]:
    """Return what part is right for each digit, a row, with each number, a column; rights bool [10, M], digits [M]."""
    return [[round(part, 4) for part in rights[:, digits == digit].double().mean(1).tolist()] for digit in range(10)]


if __name__ == "__main__":
    run_stage(STAGE, main)
