"""Stage fetch: bring the four files of MNIST, checked by SHA-256, into data/raw."""

from pathlib import Path

from digitsum.data.idx import expected_digests
from digitsum.data.sources import fetch_mnist
from digitsum.params import load_params
from digitsum.stage import run_stage


def main() -> None:
    """Read params; try the sources in order; write data/raw."""
    params = load_params("fetch").fetch
    source = fetch_mnist(Path("data/raw"), expected_digests(params), params.timeout)
    print(f"data/raw: four files of MNIST from {source}, digests right")


if __name__ == "__main__":
    run_stage("fetch", main)
