"""CPU-seconds in which each variant of studies/mnist_add draws its sums, trains and is scored, with one seed.

    python -m benchmarks mnist_add                    # 20 minutes, best on an idle machine; writes mnist_add.csv
    python -m benchmarks mnist_add lenet_2 large_2    # measures these; the rows of the others stay

Unlike accuracies, seconds differ from run to run, and more from day to day, so this is no stage.
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
from tools.tables import machine, read_rows

STUDY, TABLE = Path("studies/mnist_add"), Path("benchmarks/mnist_add.csv")
COLUMNS = ("variant", "cpu_seconds", "machine")
SEED = 0


def main(arguments: Sequence[str], numerics: str) -> None:
    """Train each variant, or those that are named, with one seed; write a row after each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks mnist_add", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="VARIANT", help="which to measure (default all)")
    names = parser.parse_args(arguments).names
    measured_on, table = machine(torch.device("cpu")), TABLE.absolute()
    rows = {row["variant"]: row for row in read_rows(table)}
    with contextlib.chdir(STUDY):
        stage = Stage("trial")
        variants = {name: read_variant(stage, name) for name in stage.declared.values["variants"]}
        if unknown := set(names) - variants.keys():
            parser.error(f"no variant {', '.join(sorted(unknown))}; there are {', '.join(variants)}")
        raw = read_mnist(stage)
        for name in names or variants:
            start = time.process_time()
            learn(variants[name], SEED, raw)
            seconds = f"{time.process_time() - start:.1f}"
            rows[name] = dict(zip(COLUMNS, (name, seconds, measured_on), strict=True))
            print(f"{name}: {seconds} CPU-seconds", flush=True)
            write_csv(table, COLUMNS, [list(rows[name].values()) for name in variants if name in rows])
