"""Stage trial: train one variant with each of its seeds, and score it on sums of the test split.

As studies/trial.py it depends on its variant, its seeds and digests, not on code: of the sums and of the probe.
"""

import dataclasses
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from digitsum.core.errors import DigitsumError
from digitsum.core.files import write_json
from digitsum.core.numerics import cores
from digitsum.core.runner import Stage
from digitsum.mnist.idx import RawMnist
from digitsum.training.params import TrainingParams
from studies.mnist_add.learning import score, train_network
from studies.mnist_add.sums import DRAWN, Addition, digest_of_sums, draw_examples
from studies.trial import of_variant, read_mnist, read_partial, read_probe, read_seeds, read_training


@dataclass(frozen=True)
class Variant:
    """The parameters of one variant, and the seeds to train it with."""

    training: TrainingParams
    addition: Addition
    seeds: list[int]


def main(stage: Stage, name: str) -> None:
    """Train and score with each seed, those apart that an interrupted run has done; write results/NAME.json, whole.

    Each core trains another seed: a process for each, because one thread gives the same bits on every machine.
    """
    variant, raw, drawn = read_variant(stage, name), read_mnist(stage), json.loads(DRAWN.read_text())
    if digest_of_sums(raw, variant.addition, variant.seeds) != drawn["variants"].get(name):
        raise DigitsumError(f"the sums of {name} are not those of {DRAWN}; run `dvc repro` again")
    key = stage.digest(name, read_probe(stage, name))
    partial = stage.checkpoints(key) / f"{name}.json"
    result = read_partial(partial)
    result["num_digits"] = variant.addition.num_digits
    missing = [seed for seed in variant.seeds if str(seed) not in result["seeds"]]
    with ProcessPoolExecutor(cores(), multiprocessing.get_context("spawn")) as pool:
        for seed, run in zip(missing, [pool.submit(learn, variant, seed, raw) for seed in missing], strict=True):
            result["weights"], scores = run.result()
            result["seeds"][str(seed)] = scores
            write_json(partial, result)
            print(f"{name}, seed {seed}: digits {scores['digits']:.2%}  sums {scores['sums']:.2%}", flush=True)
    write_json(Path(f"results/{name}.json"), result)


def learn(variant: Variant, seed: int, raw: RawMnist) -> tuple[int, dict[str, Any]]:
    """Train with `seed` on the sums that it draws; return the number of weights, and the scores on the test sums."""
    training = dataclasses.replace(variant.training, train=dataclasses.replace(variant.training.train, seed=seed))
    examples, test = draw_examples(raw, variant.addition, seed)
    network = train_network(training, variant.addition, examples)
    return sum(weights.numel() for weights in network.parameters()), score(network, test)


def read_variant(stage: Stage, name: str) -> Variant:
    """Return the variant `name` of the study. Raises DigitsumError if a value is wrong."""
    variant = of_variant(stage, name)
    return Variant(read_training(variant), variant.params(Addition), read_seeds(variant, name))
