"""Stage probe: train each variant of a study for a few dozen steps, and write the digests of what came out.

The trials of a study take hours. They depend on their probe's digest, not on code: an edit that leaves the bits alone
reruns the probes, which takes seconds, and one that changes the bits of a variant reruns that variant's trial.
"""

import dataclasses
import math

import torch

from digitsum.core.runner import Stage
from digitsum.data.splits import Split
from digitsum.data.tensors import identity
from digitsum.mnist.idx import RawMnist
from digitsum.pairing.pairs import make_splits, paired
from studies.trial import PARTS, Variant, read_variant, train_and_score, write_probes

BATCHES = 9.5  # an epoch: the last batch is smaller, as it is when all pairs are trained on
STEPS = 15  # at least so many with warps, and so many without, if the variant has as many
TEST_IMAGES = 100


def main(stage: Stage) -> None:
    """Train and score every variant for a few steps; write probes.json."""
    write_probes(stage, lambda name, raw: probe(read_variant(stage, name), raw))


def probe(variant: Variant, raw: RawMnist) -> str:
    """Return a SHA-256 of weights, predictions and scores after a short training with all phases of the variant's.

    What is shortened goes in as well, because the short training does not depend on it.
    """
    short = shortened(variant, len(raw.train_labels))
    splits = make_splits(raw, short.pair)
    test = with_all_numbers(splits["test"])
    validation = dataclasses.replace(test, is_test=splits["validation"].is_test)
    trained = train_and_score(short, short.training.train.seed, {**splits, "validation": validation, "test": test})
    answers = {
        "answers.digit": trained.predictions.digit_probabilities,
        "answers.sum": trained.predictions.sum_probabilities,
    }
    full = variant.pair.training_size, variant.training.train.epochs, variant.training.train.clean_epochs
    return identity(trained.network.state_dict() | answers, {**trained.scores, "full": full})


def shortened(variant: Variant, images: int) -> Variant:
    """Return the variant with few pairs and epochs, both kinds of epochs among them, and all PARTS of a result.

    images: training images of MNIST, before the validation split is taken from them.
    """
    pair, train = variant.pair, variant.training.train
    available = images - pair.validation_size
    size = min(int(BATCHES * train.batch_size), pair.training_size or available)
    epochs = math.ceil(STEPS / math.ceil(size * pair.pairs_per_image / train.batch_size))
    clean = min(epochs, train.clean_epochs)
    warped = min(epochs, math.ceil(train.epochs) - train.clean_epochs)
    return dataclasses.replace(
        variant,
        pair=dataclasses.replace(pair, training_size=size if size < available else 0),
        training=dataclasses.replace(
            variant.training, train=dataclasses.replace(train, epochs=warped + clean, clean_epochs=clean)
        ),
        keep=list(PARTS),
    )


def with_all_numbers(split: Split) -> Split:
    """Return the first images of a split, each with all ten numbers."""
    digits = split.digits[:TEST_IMAGES]
    numbers = torch.arange(10).unsqueeze(1).expand(10, len(digits))
    return paired(split.images[:TEST_IMAGES], digits, numbers)
