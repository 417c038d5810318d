"""The paired data: right sums, fixed numbers, a fair division."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from harness.tiny_mnist import split_raw

from digitsum.core.errors import DigitsumError
from digitsum.data.splits import load_split, save_split
from digitsum.data.tensors import METADATA, Rows, identity, load_tensors, read_rows, save_tensors
from digitsum.model.network import normalisation
from digitsum.pairing.pairs import draw_numbers, select_images
from digitsum.pairing.params import Pair


def images_of(split):
    return {image.numpy().tobytes() for image in split.images}


def pairs_of(split):
    images, _, numbers = split[:]
    return {(image.numpy().tobytes(), number) for image, number in zip(images, numbers.tolist(), strict=True)}


@pytest.fixture
def split(raw):
    """Return a small split, of two pairs an image."""
    return split_raw(raw, 50, 2, 0)["validation"]


@pytest.fixture
def path(split, tmp_path):
    """Return the file of `split`."""
    save_split(tmp_path / "split", split)
    return tmp_path / "split"


def test_another_seed_draws_other_numbers_and_another_validation_split(raw, splits):
    others = split_raw(raw, seed=1)
    assert not any(torch.equal(others[name].numbers, split.numbers) for name, split in splits.items())
    assert images_of(others["validation"]) != images_of(splits["validation"])


def test_every_sum_is_digit_plus_number_and_every_image_has_its_pairs(raw):
    for split in split_raw(raw, 50, 3, 0).values():
        assert torch.equal(split.digits[split.image_index] + split.numbers, split.sums)
        assert torch.equal(split.image_index.bincount(), torch.full((len(split.images),), 3))
        images, digits, numbers = split[:]
        assert images.dtype == split.images.dtype == split.digits.dtype == torch.uint8
        assert digits.dtype == numbers.dtype == split.sums.dtype == torch.int64
        assert len(images) == len(split) == 3 * len(split.images)


def test_validation_comes_from_the_training_set_stratified_and_test_is_mnists_own(raw, splits):
    assert {name: len(split.images) for name, split in splits.items()} == {"train": 350, "validation": 50, "test": 100}
    assert splits["validation"].digits.bincount().tolist() == [5] * 10
    assert images_of(splits["train"]).isdisjoint(images_of(splits["validation"]))
    everything = {image.tobytes() for image in raw.train_images}
    assert images_of(splits["train"]) | images_of(splits["validation"]) == everything
    assert np.array_equal(splits["test"].images.numpy(), raw.test_images)
    assert np.array_equal(splits["test"].digits.numpy(), raw.test_labels)


def test_the_test_pairs_do_not_depend_on_the_size_of_validation(raw, splits):
    for ours, theirs in zip(splits["test"][:], split_raw(raw, 100)["test"][:], strict=True):
        assert torch.equal(ours, theirs)


def test_more_pairs_an_image_keep_the_first_ones():
    assert torch.equal(draw_numbers(100, 3, "train", 0)[:2], draw_numbers(100, 2, "train", 0))


def test_training_and_test_numbers_are_drawn_apart():
    assert not torch.equal(draw_numbers(100, 1, "train", 0), draw_numbers(100, 1, "test", 0))


def test_all_ten_numbers_are_drawn_equally_often():
    counts = draw_numbers(100_000, 1, "train", 0).flatten().bincount(minlength=10)
    # Six standard deviations of a binomial count; `randint(0, 9)`, a common bug, never draws 9.
    assert (counts - 10_000).abs().max() < 6 * (100_000 * 0.1 * 0.9) ** 0.5


def test_normalisation_is_the_mean_and_standard_deviation_of_the_training_pixels(splits):
    images = splits["train"].images
    mean, std = normalisation(images)
    assert mean == pytest.approx(images.double().mean().item() / 255, rel=1e-9)
    assert std == pytest.approx(images.double().std(correction=0).item() / 255, rel=1e-9)


@pytest.mark.parametrize("size", [400, 395, 1000])
def test_a_validation_split_that_leaves_too_little_is_refused(raw, size):
    with pytest.raises(DigitsumError, match=f"pair.validation_size is {size}, which does not divide the 400"):
        split_raw(raw, size)


def test_fewer_training_images_are_drawn_stratified_and_keep_their_pairs(raw, splits):
    part = split_raw(raw, training_size=100)["train"]
    assert part.digits.bincount().tolist() == [10] * 10
    assert pairs_of(part) < pairs_of(splits["train"])


@pytest.mark.parametrize("size", [5, 350, 1000])
def test_a_training_split_that_cannot_be_drawn_is_refused(raw, size):
    with pytest.raises(DigitsumError, match=f"pair.training_size is {size}, which does not divide the 350"):
        split_raw(raw, training_size=size)


def test_without_validation_all_is_trained_on_and_the_test_split_is_watched(raw):
    splits = split_raw(raw, 0)
    assert len(splits["train"].images) == 400
    assert splits["validation"] is splits["test"]


def test_a_split_is_read_back_as_it_was_written(split, path):
    again = load_split(path)
    assert again.is_test == split.is_test
    for name in ("images", "digits", "image_index", "numbers"):
        assert torch.equal(getattr(again, name), getattr(split, name))


def test_images_that_are_written_in_parts_give_the_same_file(raw, splits, tmp_path, monkeypatch):
    monkeypatch.setattr(Rows, "AT_ONCE", 7)
    for name, selection in select_images(raw, Pair(0, 50, 0, 1)).items():
        selection.save(tmp_path / name)
        save_split(tmp_path / "whole", splits[name])
        assert (tmp_path / name).read_bytes() == (tmp_path / "whole").read_bytes()


def test_rows_that_are_read_from_a_file_are_those_of_the_tensor(split, path):
    rows = torch.tensor([0, 2, 3, 7, 9, len(split.images) - 1])
    assert torch.equal(read_rows(load_split(path).source, "images", rows), split.images[rows])


def test_a_file_of_tensors_is_what_the_library_writes(tmp_path):
    draws = torch.Generator().manual_seed(0)
    kinds = (torch.uint8, torch.int32, torch.int64, torch.float32, torch.float64)
    tensors = {f"é {kind}": torch.randn(3, 4, generator=draws).to(kind) for kind in kinds}
    tensors |= {"one": torch.tensor(1.5), "none": torch.zeros(0, 2), "strided": torch.arange(6).view(2, 3).T}
    config = {"text": 'ü "\n', "numbers": [1, 2.5]}
    save_tensors(tmp_path / "ours", tensors, config)
    about = json.dumps({"config": config, "identity": identity(tensors, config)}, sort_keys=True)
    theirs = safetensors.torch.save({name: t.contiguous() for name, t in tensors.items()}, {METADATA: about})
    assert (tmp_path / "ours").read_bytes() == theirs


def test_the_file_has_a_row_for_each_pair_image_number_and_sum(split, path):
    pairs = load_tensors(path)[0]["pairs"]
    assert pairs.dtype == torch.int64
    assert torch.equal(pairs, torch.stack([split.image_index, split.numbers, split.sums], dim=1))


def test_a_pair_takes_five_bytes_of_memory_and_its_row_of_the_file_none(path):
    split = load_split(path)
    assert split.image_index.untyped_storage().nbytes() + split.numbers.untyped_storage().nbytes() == 5 * len(split)
    mapped = Path("/proc/self/maps")
    if mapped.exists():
        assert mapped.read_text().count(str(path)) == 2  # images and digits


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("pairs", lambda pairs: pairs + torch.tensor([0, 0, 1])),
        ("pairs", lambda pairs: pairs + torch.tensor([0, 7, 7])),
        ("pairs", lambda pairs: pairs - torch.tensor([9, 0, 0])),
        ("pairs", lambda pairs: pairs + torch.tensor([9, 0, 0])),
        ("pairs", lambda pairs: pairs[:, :2]),
        ("pairs", lambda pairs: pairs[:0]),
        ("pairs", lambda pairs: pairs.float()),
        ("pairs", lambda pairs: torch.tensor(3)),
        ("images", lambda images: images[1:]),
        ("digits", lambda digits: digits + 9),
    ],
)
def test_a_split_that_cannot_be_true_is_refused(path, name, spoil):
    tensors, _ = load_tensors(path)
    save_tensors(path, {**tensors, name: spoil(tensors[name])})
    with pytest.raises(DigitsumError, match="is not a split of images, digits and pairs; run `dvc repro pair`"):
        load_split(path)


def test_a_file_of_other_tensors_is_refused(tmp_path):
    save_tensors(tmp_path / "split", {"weights": torch.zeros(3)})
    with pytest.raises(DigitsumError, match="expected images, digits, pairs"):
        load_split(tmp_path / "split")
