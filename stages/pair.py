"""Stage pair: give every image its numbers and sums, and divide MNIST into train, validation and test."""

from pathlib import Path

from digitsum.core.runner import Stage
from digitsum.data.splits import load_split
from digitsum.mnist.idx import expected_digests, read_raw
from digitsum.mnist.params import Mnist
from digitsum.pairing.params import Pair


def main(stage: Stage) -> None:
    """Read data/raw; make the splits; write data/paired and plots/pairs.png."""
    pair = stage.params(Pair)
    raw = read_raw(Path("data/raw"), expected_digests(stage.params(Mnist)))
    # scikit-learn and matplotlib take 0.9 s to import: not before the input is checked.
    from digitsum.pairing.overview import draw_pairs
    from digitsum.pairing.pairs import select_images

    splits = {}
    for name, selection in select_images(raw, pair).items():
        path = Path(f"data/paired/{name}.safetensors")
        selection.save(path)
        splits[name] = load_split(path)
        print(f"{path}: {len(splits[name].images):,} images, {len(splits[name]):,} pairs")
    draw_pairs(Path("plots/pairs.png"), splits)
