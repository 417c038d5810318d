"""Stage probe: train each variant for a few dozen steps, and write the digests of what came out: see ../probe.py."""

import dataclasses
import math

from digitsum.core.runner import Stage
from digitsum.data.tensors import identity
from digitsum.evaluation.predict import encode_images
from digitsum.mnist.idx import RawMnist
from digitsum.training.params import Train
from studies.mnist_add.learning import score, sums_per_step, train_network
from studies.mnist_add.sums import draw_examples
from studies.mnist_add.trial import Variant, read_variant
from studies.trial import write_probes

STEPS = 4.5  # an epoch: the last batch is smaller
EPOCHS = 3  # at most so many with warps, and so many without
TEST_IMAGES, TEST_SUMS = 100, 20


def main(stage: Stage) -> None:
    """Train and score every variant for a few steps; write probes.json."""
    write_probes(stage, lambda name, raw: probe(read_variant(stage, name), raw))


def probe(variant: Variant, raw: RawMnist) -> str:
    """Return a SHA-256 of weights, answers and scores after a short training with all phases of the variant's.

    What is shortened goes in as well, because the short training does not depend on it.
    """
    train = variant.training.train
    short, (examples, test) = shortened(train), draw_examples(raw, variant.addition, train.seed)
    few = int(STEPS * sums_per_step(train, examples))
    network = train_network(
        dataclasses.replace(variant.training, train=short),
        variant.addition,
        dataclasses.replace(examples, rows=examples.rows[:few]),
    )
    answers = encode_images(network, test.images[:TEST_IMAGES]).digit_logits
    scores = score(network, dataclasses.replace(test, rows=test.rows[:TEST_SUMS]))
    return identity(network.state_dict() | {"answers": answers}, {**scores, "full": [train.epochs, train.clean_epochs]})


def shortened(train: Train) -> Train:
    """Return the parameters for few epochs, with and without warps if the training has both."""
    clean = min(EPOCHS, train.clean_epochs)
    warped = min(EPOCHS, math.ceil(train.epochs) - train.clean_epochs)
    return dataclasses.replace(train, epochs=warped + clean, clean_epochs=clean)
