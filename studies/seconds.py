"""What an epoch costs with each fusion, against `shift`: CPU-seconds of one thread, measured in turn.

    make seconds    # some minutes, best on a machine at rest; writes studies/fusions/seconds.csv

Other than accuracies, seconds are not the same on every run, so this is no stage.
"""

import dataclasses
import time
from pathlib import Path

import stages  # noqa: F401  prepares the environment as for a stage, before torch is imported

# isort: split
import torch
import torch._dynamo  # the first optimizer would import it, at the cost of whoever comes first

from digitsum.core.files import write_csv
from digitsum.data.splits import load_split
from digitsum.model.fusions import FUSIONS
from digitsum.model.network import new_network
from digitsum.core.numerics import compute_with
from digitsum.core.params import load_params
from digitsum.training.loop import fit
from studies.measuring import errors_in_one_line, machine

TABLE = Path("studies/fusions/seconds.csv")
ROUNDS, PART = 7, 0.1  # of an epoch


def main() -> None:
    """Train a part of an epoch with each fusion, round after round; keep the least seconds of each."""
    params = load_params("trial", TABLE.parent)
    compute_with(params.train.numerics, threads=1)
    train = dataclasses.replace(params.train, epochs=PART, clean_epochs=0)
    training, validation = (load_split(Path(f"data/paired/{name}.safetensors")) for name in ("train", "validation"))
    few = {"image_index": validation.image_index[:100], "numbers": validation.numbers[:100]}
    validation = dataclasses.replace(validation, **few)  # validating is not what is measured
    least = {fusion: float("inf") for fusion in FUSIONS if not fusion.startswith("seed_")}
    for _ in range(ROUNDS):
        for fusion in least:
            network = new_network(dataclasses.replace(params.model, fusion=fusion), training)
            start = time.process_time()
            list(fit(network, training, validation, train, torch.device("cpu")))
            least[fusion] = min(least[fusion], (time.process_time() - start) / PART)
    rows = [
        [name, round(of, 2), round(of / least["shift"], 3), machine(torch.device("cpu"))] for name, of in least.items()
    ]
    write_csv(TABLE, ["fusion", "cpu_seconds_an_epoch", "of_shift", "machine"], rows)


if __name__ == "__main__":
    with errors_in_one_line():
        main()
