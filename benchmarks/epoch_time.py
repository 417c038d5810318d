"""Epoch time with each fusion, relative to `shift`: CPU-seconds of one thread, measured in turn.

    make epoch-time    # some minutes, best on an idle machine; writes benchmarks/epoch_time.csv

The parameters are those of the fusions study: the recipe `light`, one thread, portable numerics. Unlike accuracies,
seconds differ from run to run, so this is no stage.
"""

import argparse
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import torch._dynamo  # the first optimizer would import it, and the first fusion would pay for it

from digitsum.core.files import write_csv
from digitsum.core.numerics import Compute
from digitsum.data.splits import load_split
from digitsum.model.fusions import FUSIONS
from digitsum.training.loop import train_network
from tools.recipes import read_recipes
from tools.tables import machine

TABLE = Path("benchmarks/epoch_time.csv")
ROUNDS, PART = 7, 0.1  # of an epoch


def main(arguments: Sequence[str], numerics: str) -> None:
    """Train a part of an epoch with each fusion, round after round; keep the fewest seconds of each."""
    argparse.ArgumentParser(prog="python -m benchmarks epoch_time", description=__doc__).parse_args(arguments)
    light = read_recipes()["light"].training
    train = dataclasses.replace(light.train, epochs=PART, clean_epochs=0)
    light = dataclasses.replace(light, train=train, compute=Compute(numerics))
    training, validation = (load_split(Path(f"data/paired/{name}.safetensors")) for name in ("train", "validation"))
    image_index, numbers = validation.image_index[:100], validation.numbers[:100]  # validating is not what is measured
    validation = dataclasses.replace(validation, image_index=image_index, numbers=numbers)
    fewest = {fusion: float("inf") for fusion in FUSIONS if not fusion.startswith("baseline_")}
    for _ in range(ROUNDS):
        for fusion in fewest:
            params = dataclasses.replace(light, model=dataclasses.replace(light.model, fusion=fusion))
            start = time.process_time()
            train_network(params, training, validation, torch.device("cpu"))
            fewest[fusion] = min(fewest[fusion], (time.process_time() - start) / PART)
    measured_on = machine(torch.device("cpu"))
    rows = [[name, round(s, 2), round(s / fewest["shift"], 3), measured_on] for name, s in fewest.items()]
    write_csv(TABLE, ["fusion", "cpu_seconds_an_epoch", "of_shift", "machine"], rows)
