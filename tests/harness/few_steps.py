"""Train a few steps as the stage train does, predict as evaluate does, and print a SHA-256 of all the bits.

Synthetic data and fixed parameters, so that the digest changes only when the arithmetic does.
"""

import dataclasses
import hashlib
from pathlib import Path

from digitsum.core import numerics

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = {"lr": 0.01, "weight_decay": 0.01, "label_smoothing": 0.05, "sum_loss_share": 0.5, "average_decay": 0.9}
SETTINGS |= {"rotation": 10, "scaling": 0.1, "shear": 0.1, "translation": 1, "seed": 0}
SETTINGS |= {"batch_size": 20, "epochs": 2, "clean_epochs": 1}


def main():
    """Print the digest."""
    numerics.prepare("portable")
    import torch

    from digitsum.data.splits import Split
    from digitsum.evaluation.predict import predict, see_images
    from digitsum.model.network import Network
    from digitsum.core.params import load_params
    from digitsum.training.loop import fit

    numerics.compute_with("portable", threads=2)
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (100, 28, 28), generator=draws).to(torch.uint8)
    numbers, order = torch.randint(0, 10, (100,), generator=draws), torch.arange(100)
    training = Split(images, (order % 10).byte(), order.int(), numbers.byte())
    # Few, for all looks at them take longer than the steps.
    seen = Split(training.images[:20], training.digits[:20], training.image_index[:20], training.numbers[:20])
    train = dataclasses.replace(load_params("train", ROOT).train, **SETTINGS)
    digest = hashlib.sha256()
    for fusion, trunk in [("shift", "strided"), ("concat", "large"), ("film", "pooled")]:
        torch.manual_seed(0)
        network = Network(fusion, 0.5, 0.3, trunk)
        for _ in fit(network, training, seen, train, torch.device("cpu")):
            pass
        predictions = predict(network, seen, see_images(network, seen.images))
        for tensor in [*network.state_dict().values(), predictions.digit_probabilities, predictions.sum_loss]:
            digest.update(tensor.contiguous().numpy().tobytes())
    print(digest.hexdigest())


if __name__ == "__main__":
    main()
