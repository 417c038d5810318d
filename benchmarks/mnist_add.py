"""CPU-seconds in which each variant of studies/mnist_add draws its sums, trains and is scored, with one seed.

    python -m benchmarks mnist_add    # 15 minutes, best on an idle machine; writes benchmarks/mnist_add.csv

Unlike accuracies, seconds differ from run to run, so this is no stage.
"""

import argparse
import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import torch._dynamo  # the first optimizer would import it, and the first variant would pay for it

from digitsum.core.files import write_csv
from digitsum.core.runner import Stage
from studies.mnist_add.trial import learn, read_variant
from studies.trial import read_mnist
from tools.tables import machine

STUDY, TABLE = Path("studies/mnist_add"), Path("benchmarks/mnist_add.csv")
SEED = 0


def main(arguments: Sequence[str], numerics: str) -> None:
    """Train each variant with one seed; write the table."""
    argparse.ArgumentParser(prog="python -m benchmarks mnist_add", description=__doc__).parse_args(arguments)
    measured_on, rows = machine(torch.device("cpu")), []
    with contextlib.chdir(STUDY):
        stage = Stage("trial")
        raw = read_mnist(stage)
        for name in stage.declared.values["variants"]:
            variant, start = read_variant(stage, name), time.process_time()
            learn(variant, SEED, raw)
            rows.append([name, round(time.process_time() - start, 1), measured_on])
            print(f"{name}: {rows[-1][1]} CPU-seconds", flush=True)
    write_csv(TABLE, ["variant", "cpu_seconds", "machine"], rows)
