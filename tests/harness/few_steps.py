"""Train a few steps as the stage train does, predict as evaluate does, and print a SHA-256 of all the bits.

Synthetic data and fixed parameters, so that the digest changes only when the arithmetic does.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

from digitsum.core.files import read_yaml
from digitsum.core.numerics import Compute, set_environment
from digitsum.core.params import to_group

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {"lr": 0.01, "weight_decay": 0.01, "label_smoothing": 0.05, "sum_loss_share": 0.5, "average_decay": 0.9}
SETTINGS |= {"rotation": 10, "scaling": 0.1, "shear": 0.1, "translation": 1, "seed": 0}
SETTINGS |= {"batch_size": 12, "shards": 2, "epochs": 2, "clean_epochs": 1}


def main(on_epoch=None, **changes):
    """Print the digest, with some of SETTINGS changed; call `on_epoch` as train_network does."""
    set_environment("portable")
    import torch

    from digitsum.data.splits import Split
    from digitsum.evaluation.predict import encode_images, predict
    from digitsum.model.params import Model
    from digitsum.training import loop
    from digitsum.training.params import Train, TrainingParams
    from digitsum.training.workers import start_workers

    draws = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (60, 28, 28), generator=draws).to(torch.uint8)
    numbers, order = torch.randint(0, 10, (60,), generator=draws), torch.arange(60)
    training = Split(images, (order % 10).byte(), order.int(), numbers.byte())
    # Few, because predicting them with all shifts takes longer than the steps.
    few = Split(training.images[:8], training.digits[:8], training.image_index[:8], training.numbers[:8])
    train = replace(to_group(Train, read_yaml(ROOT / "params.yaml")), **{**SETTINGS, **changes})
    digest, cpu = hashlib.sha256(), torch.device("cpu")
    with start_workers(train.shards, cpu) as workers:
        for fusion, trunk in [("shift", "strided"), ("concat", "large"), ("film", "pooled")]:
            params = TrainingParams(Model(fusion, trunk, deskew=True), train, Compute("portable"))
            network, _ = loop.train_network(params, training, few, cpu, workers, on_epoch=on_epoch)
            predictions = predict(network, few, encode_images(network, few.images))
            for tensor in [*network.state_dict().values(), predictions.digit_probabilities, predictions.sum_loss]:
                digest.update(tensor.contiguous().numpy().tobytes())
    print(digest.hexdigest())


if __name__ == "__main__":
    main()
