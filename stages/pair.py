"""Stage pair: give every image its numbers and sums, and divide MNIST into train, validation and test."""

from pathlib import Path

from digitsum.data.idx import expected_digests, read_raw
from digitsum.data.splits import save_split
from digitsum.params import declared_path, load_params
from digitsum.stage import run_stage


def main() -> None:
    """Read data/raw; make the splits; write data/paired and plots/pairs.png."""
    params = load_params("pair")
    raw = read_raw(declared_path("pair", "data/raw"), expected_digests(params.fetch))
    # scikit-learn and matplotlib take seconds to import: not before the input has proved good.
    from digitsum.data.figures import draw_pairs
    from digitsum.data.pairs import make_splits

    pair = params.pair
    splits = make_splits(raw, pair.validation_size, pair.pairs_per_image, pair.seed, pair.training_size)
    for name, split in splits.items():
        save_split(Path(f"data/paired/{name}.safetensors"), split)
        print(f"data/paired/{name}.safetensors: {len(split.images):,} images, {len(split):,} pairs")
    draw_pairs(Path("plots/pairs.png"), splits)


if __name__ == "__main__":
    run_stage("pair", main)
