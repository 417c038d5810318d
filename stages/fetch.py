"""Stage fetch: bring the four files of MNIST, checked by SHA-256, into data/raw."""

from pathlib import Path

from digitsum.core.runner import Stage
from digitsum.mnist.idx import expected_digests
from digitsum.mnist.params import Fetch, Mnist
from digitsum.mnist.sources import fetch_mnist


def main(stage: Stage) -> None:
    """Keep data/raw if it is right; otherwise try the sources in order and write it."""
    digests = expected_digests(stage.params(Mnist))
    source = fetch_mnist(Path("data/raw"), digests, stage.params(Fetch).timeout)
    print(f"data/raw: four files of MNIST, digests right, from {source}")
