"""The training loop: it learns, it repeats itself, and it stops when the loss is lost."""

import json
import math
import shutil

import pytest
import torch
import torch._inductor.config
from harness.tiny_mnist import split_raw
from harness.training import make_network, settings, train, weights_of
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from digitsum.core.errors import DigitsumError
from digitsum.model.fusions import FUSIONS
from digitsum.model.network import Network
from digitsum.model.preprocess import resample
from digitsum.training.batches import affine_maps, draw_warps
from digitsum.training.devices import choose_device, set_precision
from digitsum.training.history import EpochResult, write_history
from digitsum.training.loss import Scores, pair_losses
from digitsum.training.optimizer import SCHEDULES


@pytest.mark.parametrize(
    "fusion", [pytest.param(name, marks=[] if name in ("shift", "concat") else pytest.mark.slow) for name in FUSIONS]
)
def test_every_fusion_learns_the_digit_and_the_sum(raw, fusion):
    splits = split_raw(raw, 50, 20, 0)  # so that a learned fusion sees each digit with each number 70 times
    _, history = train(splits, fusion, epochs=3, batch_size=50)
    scores = history[-1].validation
    assert scores.digit_accuracy > 0.95
    assert scores.sum_accuracy > (0.7 if fusion.startswith("baseline_") else 0.9)  # the baselines learn slowly
    assert scores.joint_accuracy <= min(scores.digit_accuracy, scores.sum_accuracy)


def test_the_training_loss_of_an_epoch_and_of_half_of_one_is_the_mean_over_its_own_pairs(splits):
    _, (first, second) = train(splits, lr=1e-9, epochs=1.5, batch_size=20)  # a rate that changes nothing
    assert second.training.loss == pytest.approx(first.training.loss, rel=0.05)


def test_nothing_is_chosen_by_looking_at_validation(splits):
    one, other = (train(given)[0] for given in (splits, {**splits, "validation": splits["test"]}))
    for network in (one, other):
        network.digit_temperature.fill_(1)  # but for these
        network.sum_temperature.fill_(1)
    assert torch.equal(weights_of(one), weights_of(other))


def test_the_saved_weights_are_the_average_and_are_what_validation_scored(splits):
    network, history = train(splits)
    images, digits, numbers = splits["validation"][:]
    with torch.no_grad():
        digit_logits, _ = network(images, numbers)
    right = digit_logits.argmax(1) == digits
    assert right.double().mean().item() == pytest.approx(history[-1].validation.digit_accuracy)
    assert not torch.equal(weights_of(network), weights_of(train(splits, average_decay=0.0)[0]))


def test_a_loss_that_is_lost_ends_training_with_the_cure(splits):
    with pytest.raises(DigitsumError, match=r"training diverged: .* Lower train.lr \(now 1e\+30\)"):
        train(splits, lr=1e30)


@pytest.mark.parametrize(("epochs", "steps"), [(0.001, 1), (0.7, 5), (9 / 7, 9)])
def test_too_few_steps_are_refused_and_ten_are_enough(splits, epochs, steps):
    with pytest.raises(DigitsumError, match=rf"which is {steps} steps of 50 pairs; .* Raise train.epochs or lower"):
        train(splits, epochs=epochs, batch_size=50)
    train(splits, epochs=1, batch_size=35)


def some_answers():
    """Draw digit and sum logits, digits and numbers of 20 pairs."""
    draws = torch.Generator().manual_seed(0)
    logits = [torch.randn(20, classes, generator=draws) for classes in (10, 19)]
    return *logits, *torch.randint(0, 10, (2, 20), generator=draws)


def test_with_shift_the_loss_of_the_sum_is_the_loss_of_the_digit():
    digit_logits, _, digits, numbers = some_answers()
    sum_logits = make_network("shift").fusion(digit_logits, digit_logits, numbers)[1]
    digit_loss, sum_loss = pair_losses(digit_logits, sum_logits, digits, numbers, settings(label_smoothing=0.1))
    torch.testing.assert_close(digit_loss, functional.cross_entropy(digit_logits, digits, label_smoothing=0.1))
    torch.testing.assert_close(sum_loss, digit_loss)


def test_without_smoothing_the_loss_is_cross_entropy_on_logits():
    digit_logits, sum_logits, digits, numbers = some_answers()
    losses = pair_losses(digit_logits, sum_logits, digits, numbers, settings(label_smoothing=0))
    torch.testing.assert_close(losses[0], functional.cross_entropy(digit_logits, digits))
    torch.testing.assert_close(losses[1], functional.cross_entropy(sum_logits, digits + numbers))


def test_a_softmax_first_puts_a_floor_under_both_losses():
    """Even for a network that is sure and right: -ln(e / (e + 9)) for ten classes, -ln(e / (e + 18)) for 19."""
    *_, digits, numbers = some_answers()
    sure = [1e4 * functional.one_hot(*answer).float() for answer in ((digits, 10), (digits + numbers, 19))]
    losses = pair_losses(*sure, digits, numbers, settings(label_smoothing=0, softmax_first=True))
    assert [loss.item() for loss in losses] == pytest.approx([1.4612, 2.0311], abs=1e-4)


# --- Augmentation --------------------------------------------------------------------------------------------------


def maps_for(**limits):
    every = {"rotation": 0.0, "scaling": 0.0, "shear": 0.0, "translation": 0.0, **limits}
    return affine_maps(draw_warps(1000, torch.Generator().manual_seed(0)), settings(**every))


def test_warps_with_limits_of_zero_change_nothing():
    images = torch.rand(1000, 28, 28) * 255
    torch.testing.assert_close(resample(images, maps_for()), images, atol=2e-3, rtol=0)


def test_translation_moves_by_pixels():
    images = torch.zeros(1, 28, 28)
    images[0, 10, 10] = 255
    one_pixel_right = torch.tensor([[[1.0, 0.0, -1 / 14], [0.0, 1.0, 0.0]]])
    moved = resample(images, one_pixel_right)
    assert moved[0, 10, 11] == pytest.approx(255, abs=0.01)
    assert maps_for(translation=2.0)[:, :, 2].abs().max() == pytest.approx(2 / 14, rel=0.01)


def test_each_limit_is_what_it_says():
    angles = torch.rad2deg(torch.atan2(*maps_for(rotation=10.0)[:, [1, 0], 0].T))
    assert angles.abs().max() == pytest.approx(10, rel=0.01)
    assert angles.mean().abs() < 1
    sizes = 1 / torch.linalg.det(maps_for(scaling=0.1)[:, :, :2]).sqrt()
    assert (sizes.min(), sizes.max()) == (pytest.approx(0.9, abs=0.01), pytest.approx(1.1, abs=0.01))
    assert maps_for(shear=0.1)[:, 0, 1].abs().max() == pytest.approx(0.1, rel=0.01)


@pytest.fixture
def batches(monkeypatch):
    """Return a list to which training adds the pixels, numbers and warps of each of its batches."""
    recorded = []
    forward_pixels = Network.forward_pixels

    def record(network, pixels, numbers, warps=None, *precision):
        if network.training:
            recorded.append((pixels, numbers, warps))
        return forward_pixels(network, pixels, numbers, warps, *precision)

    monkeypatch.setattr(Network, "forward_pixels", record)
    return recorded


@pytest.mark.parametrize(
    ("epochs", "clean_epochs", "warped"), [(3, 1, 2.0), (1.5, 1, 1.0), (0.4, 1, 0.0), (1.5, 0, 1.5)]
)
def test_a_part_of_an_epoch_sees_that_part_of_the_pairs_and_the_last_epochs_are_not_warped(
    splits, batches, epochs, clean_epochs, warped
):
    _, history = train(splits, epochs=epochs, clean_epochs=clean_epochs, batch_size=10)
    assert [result.epoch for result in history] == [1, 2, 3][: math.ceil(epochs)]
    pairs = len(splits["train"])
    assert sum(len(numbers) for _, numbers, _ in batches) == pytest.approx(epochs * pairs, abs=10)
    assert sum(len(warps) for *_, warps in batches if warps is not None) == pytest.approx(warped * pairs, abs=10)


@pytest.mark.parametrize("redraw", [False, True])
def test_numbers_are_those_of_the_pairs_at_every_epoch_unless_redrawn(splits, batches, redraw):
    """Known by the first image of the training split, which is the only one of its kind here."""
    first = splits["train"].images[0]
    train(splits, epochs=12, clean_epochs=12, redraw_numbers=redraw)
    of_first = [int(number) for pixels, numbers, _ in batches for number in numbers[(pixels == first).all(2).all(1)]]
    assert len(of_first) == 12
    if redraw:
        assert len(set(of_first)) > 3
        shares = torch.cat([numbers for _, numbers, _ in batches]).bincount(minlength=10) / (12 * len(splits["train"]))
        assert shares.sub(0.1).abs().max() < 0.02
    else:
        assert set(of_first) == {int(splits["train"].numbers[0])}


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_every_optimizer_learns_with_a_constant_rate_or_a_cycle(splits, name):
    changes = {"optimizer": name, "lr": {"adamw": 0.01, "adam": 0.005, "sgd": 0.05}[name], "average_decay": 0.9}
    for schedule in SCHEDULES:
        _, history = train(splits, epochs=3, batch_size=10, schedule=schedule, **changes)
        assert history[-1].validation.digit_accuracy > 0.95


def test_a_constant_rate_stays_and_a_cycle_climbs_and_falls():
    weights = [torch.nn.Parameter(torch.zeros(1))]
    rates = {}
    for name, schedule in SCHEDULES.items():
        optimizer = torch.optim.SGD(weights, lr=0.5)
        schedule = schedule(optimizer, 0.5, 100)
        rates[name] = []
        for _ in range(100):
            rates[name].append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
    assert set(rates["constant"]) == {0.5}
    assert max(rates["one_cycle"]) == pytest.approx(0.5, rel=1e-3)
    assert rates["one_cycle"][0] == pytest.approx(0.05)
    assert rates["one_cycle"][-1] < 1e-3


# --- Devices and files ---------------------------------------------------------------------------------------------


def test_auto_prefers_cuda_then_mps_then_cpu(monkeypatch):
    for cuda, mps, expected in [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]:
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda mps=mps: mps)
        assert choose_device("auto").type == expected
        assert choose_device("cpu").type == "cpu"


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DigitsumError, match="train.device is cuda, but this machine has none .* set auto or cpu"):
        choose_device("cuda")


def test_bfloat16_changes_the_trunk_a_little_and_nothing_around_it(splits):
    torch.manual_seed(0)
    network = make_network("shift", 0.2, 0.3)
    images, _, numbers = splits["test"][:]
    pixels = images.float()
    dtypes = (torch.float32, torch.bfloat16)
    exact, rounded = (network.forward_pixels(pixels, numbers, None, dtype)[0] for dtype in dtypes)
    assert exact.dtype == rounded.dtype == torch.float32
    assert not torch.equal(exact, rounded)
    torch.testing.assert_close(rounded, exact, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_training_in_a_lower_precision_learns_nearly_the_same(splits, precision):
    exact, rounded = (train(splits, precision=name, batch_size=20)[1][-1] for name in ("float32", precision))
    assert torch.backends.fp32_precision == ("tf32" if precision == "tf32" else "ieee")
    assert rounded.training.loss == pytest.approx(exact.training.loss, rel=0.05)
    assert precision == "tf32" or rounded.training.loss != exact.training.loss


def test_a_precision_holds_for_convolutions_and_matrix_products_whatever_was_set_before():
    settings = (torch.backends, torch.backends.cudnn.conv, torch.backends.cuda.matmul)
    for before, precision, expected in [("tf32", "float32", "ieee"), ("ieee", "tf32", "tf32")]:
        for products in settings:  # as torch.compile does: then the first no longer speaks for the others
            products.fp32_precision = before
        assert set_precision(precision) == torch.float32
        assert [products.fp32_precision for products in settings] == [expected] * 3
    assert set_precision("bfloat16") == torch.bfloat16


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler, and g++ is not here")
def test_compiled_training_learns_nearly_the_same(splits):
    plain, fast = (
        train(splits, compile=flag, epochs=1, clean_epochs=0, batch_size=35)[1][-1] for flag in (False, True)
    )
    assert fast.training.loss != plain.training.loss
    assert fast.training.loss == pytest.approx(plain.training.loss, rel=0.01)


@pytest.mark.slow
def test_what_cannot_be_compiled_is_refused_with_the_cure(splits, monkeypatch):
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", (None, "/nowhere/g++"))
    with pytest.raises(
        DigitsumError, match=r"train.compile is true, but nothing .*No working C\+\+ .*; set it to false"
    ):
        train(splits, compile=True)


class ReadValues(TorchDispatchMode):
    """Counts how often a value is read out of a tensor, for which a GPU would have to halt."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_nothing_is_read_back_inside_an_epoch(splits, optimizer):
    counts = []
    for batch_size in (50, 10):  # more steps, no more reads
        with ReadValues() as reads:  # without the average, which counts its steps on the CPU
            train(splits, epochs=2, optimizer=optimizer, batch_size=batch_size, average_decay=0.0)
        counts.append(reads.count)
    assert counts[0] == counts[1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
@pytest.mark.parametrize("compile_", [False, True])
@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_training_on_cuda_learns(splits, precision, compile_):
    changes = {"epochs": 4, "batch_size": 25, "precision": precision, "compile": compile_}
    _, history = train(splits, device=torch.device("cuda"), **changes)
    assert history[-1].validation.joint_accuracy > 0.95


def test_the_history_holds_every_epoch_and_the_latest_rounded_and_without_times(tmp_path):
    scores = Scores(1 / 3, 0.25, 0.5, 0.99444, 0.98, 0.97)
    history = [EpochResult(epoch, scores, scores._replace(loss=0.5)) for epoch in (1, 2)]
    write_history(tmp_path / "curves.csv", tmp_path / "latest.json", history, {"weights": 7, "flop_per_image": 9})
    lines = (tmp_path / "curves.csv").read_text().splitlines()
    assert lines[:3] == ["epoch,score,split,value", "1,loss,training,0.3333", "1,loss,validation,0.5"]
    assert len(lines) == 1 + 2 * 2 * 6
    latest = json.loads((tmp_path / "latest.json").read_text())
    assert list(latest) == ["weights", "flop_per_image", "epoch", "training", "validation"]
    assert latest["epoch"] == 2
    rest = {"digit_loss": 0.25, "sum_loss": 0.5, "digit_accuracy": 0.9944, "sum_accuracy": 0.98, "joint_accuracy": 0.97}
    assert latest["training"] == {"loss": 0.3333, **rest}
    assert latest["validation"] == {"loss": 0.5, **rest}
