"""The model's contract, and what is proved of its fusions."""

import math
import re

import numpy as np
import pytest
import torch
from harness.training import make_network
from torch import nn
from torch.nn import functional

import digitsum
from digitsum.core.errors import DigitsumError
from digitsum.data.tensors import load_tensors, save_tensors
from digitsum.model.folded import folded
from digitsum.model.fusions import FUSIONS, linear_of_concatenated, one_hot
from digitsum.model.network import load_model, save_model
from digitsum.model.trunks import TRUNKS, MaxAndMean
from digitsum.training.cost import cost

EMBEDDING = 7
CONFIG = {"fusion": "shift", "trunk": "small", "deskew": True}


def some_input(count=50):
    draws = torch.Generator().manual_seed(0)
    digit_logits = 3 * torch.randn(count, 10, generator=draws)
    embedding = torch.randn(count, EMBEDDING, generator=draws)
    return digit_logits, embedding, torch.randint(0, 10, (count,), generator=draws)


def some_images(count=4):
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 28, 28), generator=draws, dtype=torch.uint8)
    return images, torch.randint(0, 10, (count,), generator=draws)


def sum_of(name, *inputs):
    return FUSIONS[name](EMBEDDING)(*inputs)[1]


def test_shift_is_marginalisation_over_all_digits_and_gives_an_impossible_sum_no_probability():
    digit_logits, embedding, numbers = some_input()
    probabilities = digit_logits.softmax(1)
    expected = torch.zeros(len(numbers), 19)
    for pair, number in enumerate(numbers.tolist()):
        for digit in range(10):
            expected[pair, digit + number] += probabilities[pair, digit]
    found = sum_of("shift", digit_logits, embedding, numbers).softmax(1)
    torch.testing.assert_close(found, expected)
    assert torch.equal(found == 0, expected == 0)


def shift_as_layers():
    """Return what turns [digit_logits; 1] into the sum logits of `shift`, for each number: [10, 19, 11].

    Where a sum is impossible the logit is -10,000, whose exponential is 0 in float32.
    """
    layers = torch.zeros(10, 19, 11)
    for number in range(10):
        layers[number, :, 10] = -1e4
        for digit in range(10):
            layers[number, number + digit, digit] = 1
            layers[number, number + digit, 10] = 0
    return layers


def with_the_weights_of_shift(name):
    fusion, layers = FUSIONS[name](EMBEDDING), shift_as_layers()
    for weights in fusion.parameters():
        nn.init.zeros_(weights)
    with torch.no_grad():
        if name == "bilinear":  # its inputs are digit by number: a table for each sum; the last column is for no number
            fusion.classify.weight.view(19, 11, 11)[:, :, :10] = layers.permute(1, 2, 0)
        else:
            fusion.hidden.weight[:10] = torch.eye(10)
            fusion.generate.weight[:, :10] = layers.flatten(1).T
    return fusion


@pytest.mark.parametrize("name", ["bilinear", "hypernetwork"])
def test_weights_exist_with_which_a_fusion_is_shift(name):
    inputs = some_input()
    expected = sum_of("shift", *inputs).softmax(1)
    torch.testing.assert_close(with_the_weights_of_shift(name)(*inputs)[1].softmax(1), expected, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("name", FUSIONS)
def test_every_fusion_gives_19_sums_whose_probabilities_add_to_1_and_depends_on_the_number(name):
    digit_logits, embedding, numbers = some_input()
    fusion = FUSIONS[name](EMBEDDING)
    fused_digit, sum_logits = fusion(digit_logits, embedding, numbers)
    assert fused_digit.shape == (len(numbers), 10)
    assert (fused_digit is digit_logits) == (name != "baseline_concat")
    assert sum_logits.shape == (len(numbers), 19)
    torch.testing.assert_close(sum_logits.softmax(1).sum(1), torch.ones(len(numbers)))
    assert not torch.equal(fusion(digit_logits, embedding, (numbers + 1) % 10)[1], sum_logits)


def test_a_layer_of_the_concatenation_is_the_sum_of_two_products():
    layer, embedding, numbers = nn.Linear(EMBEDDING + 10, 7), torch.rand(5, EMBEDDING), torch.arange(5)
    whole = layer(torch.cat([embedding, one_hot(numbers)], dim=1))
    torch.testing.assert_close(linear_of_concatenated(layer, embedding, numbers), whole)


@pytest.mark.parametrize("name", FUSIONS)
def test_the_sum_alone_teaches_the_trunk(name):
    """A gradient flows from the sum's loss through every fusion into all weights of the trunk but unused ones."""
    network = make_network(name)
    images, numbers = some_images()
    functional.cross_entropy(network(images, numbers)[1], numbers + 1).backward()
    gradients = [weights.grad for weights in network.trunk.embed.parameters()]
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients)


@pytest.mark.parametrize("trunk", TRUNKS)
@pytest.mark.parametrize("name", FUSIONS)
def test_load_model_gives_the_saved_network_back(name, trunk, tmp_path):
    network = make_network(name, 0.13, 0.31, trunk, deskew=trunk == "strided").eval()
    save_model(tmp_path / "model", network)
    again = digitsum.load_model(tmp_path / "model")
    assert not again.training
    images, numbers = some_images()
    with torch.no_grad():
        for answer, expected, classes in zip(again(images, numbers), network(images, numbers), (10, 19), strict=True):
            assert answer.shape == (4, classes)
            assert torch.equal(answer, expected)


@pytest.mark.parametrize("trunk", [name for name in TRUNKS if name not in ("lenet", "baseline_concat", "baseline_add")])
def test_a_folded_network_has_the_same_logits_and_no_batch_normalisation(trunk):
    network, draws = make_network("shift", 0.13, 0.31, trunk), torch.Generator().manual_seed(0)
    for norm in (layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)):
        values = [norm.running_mean, norm.bias.detach(), *([] if norm.weight is None else [norm.weight.detach()])]
        for value in values:  # of both signs
            value.copy_(torch.randn(value.shape, generator=draws))
        norm.running_var.copy_(0.1 + torch.rand(norm.running_var.shape, generator=draws))
    fast = folded(network.eval())
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in fast.modules())
    images, numbers = some_images()
    with torch.no_grad():
        logits, expected = (each(images, numbers)[0] for each in (fast, network))
    difference = float(expected.std(dim=0).min())  # that the images make
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-2 * difference)


def shapes_in(network):
    """Return the shapes that the layers of `network` give for an image and a number, without the batch."""
    shapes = set()
    for layer in network.modules():
        if not list(layer.children()):
            layer.register_forward_hook(lambda layer, inputs, output: shapes.add(tuple(output.shape[1:])))
    network(torch.zeros(1, 28, 28, dtype=torch.uint8), torch.tensor([7]))
    return shapes


def test_the_baseline_concat_is_as_its_write_up_has_it():
    network = make_network("baseline_concat", trunk="baseline_concat", deskew=False)
    shapes = {(6, 24, 24), (6, 12, 12), (12, 8, 8), (12, 4, 4), (192,), (20,), (10,), (19,)}
    assert shapes_in(network) >= shapes
    assert network.fusion.hidden.in_features == 212
    used = [*network.trunk.embed.parameters(), *network.fusion.parameters()]
    assert sum(weights.numel() for weights in used) == 156 + 1812 + 220 + 13632 + 650 + 1235


def test_the_baseline_add_is_as_its_write_up_has_it():
    network = make_network("baseline_add", trunk="baseline_add", deskew=False)
    linear = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(10368, 64), (64, 10), (10, 20), (20, 19)]
    assert sum(weights.numel() for weights in network.parameters()) == 762_037
    assert shapes_in(network) >= {(16, 26, 26), (32, 24, 24), (64, 22, 22), (64, 11, 11), (128, 9, 9)}


def test_loading_a_model_leaves_the_callers_randomness_alone(tmp_path):
    save_model(tmp_path / "model", make_network("concat"))
    state = torch.get_rng_state()
    load_model(tmp_path / "model")
    assert torch.equal(torch.get_rng_state(), state)


def test_the_model_normalises_by_itself():
    torch.manual_seed(0)
    plain = make_network("shift", deskew=False).eval()
    normalising = make_network("shift", 0.5, 0.25, deskew=False).eval()
    normalising.trunk.load_state_dict(plain.trunk.state_dict())
    pixels = torch.rand(2, 28, 28) * 255
    torch.testing.assert_close(normalising.encode(pixels)[0], plain.encode(255 * (pixels / 255 - 0.5) / 0.25)[0])


def shifted(images, pixels, axis):
    """Shift images along an axis, by half a pixel as interpolation does: with the mean of two neighbours."""
    return (images.roll(math.floor(pixels), axis) + images.roll(math.ceil(pixels), axis)) / 2


HALVES = (-0.5, 0.5)


@pytest.mark.parametrize(
    ("trunk", "shifts"), [("large", HALVES), ("tiny", HALVES), ("minimal", HALVES), ("pooled", (-1, 0, 1))]
)
def test_a_trained_trunk_averages_over_shifts_of_the_image(trunk, shifts):
    torch.manual_seed(0)
    network = make_network("shift", trunk=trunk, deskew=False).eval()
    pixels = torch.zeros(3, 28, 28)
    pixels[:, 4:24, 4:24] = torch.rand(3, 20, 20)
    images = [shifted(shifted(pixels, down, 1), right, 2) for down in shifts for right in shifts]
    logits = [network.trunk(image[:, 2:26, 2:26].unsqueeze(1))[0] for image in images]
    torch.testing.assert_close(network.encode(255 * pixels)[0], torch.stack(logits).mean(0))


def test_global_pooling_forgets_positions():
    channels = torch.rand(2, 128, 4, 4)
    shuffled = channels.flatten(2)[:, :, torch.randperm(16)].view_as(channels)
    torch.testing.assert_close(MaxAndMean()(shuffled), MaxAndMean()(channels))
    assert torch.equal(MaxAndMean()(channels)[:, :128], channels.flatten(2).max(dim=2).values)


@pytest.mark.parametrize(
    ("trunk", "crops"),
    [("large", 4), ("tiny", 4), ("minimal", 4), ("pooled", 9), ("strided", 1), ("small", 1), ("baseline_concat", 1)],
)
def test_training_takes_one_crop_and_test_time_shifts_share_the_first_layers(trunk, crops):
    network, calls = make_network("shift", trunk=trunk), []
    first, last = 0, len(network.trunk.embed) - 1
    for index in (first, last):
        network.trunk.embed[index].register_forward_hook(lambda *_, index=index: calls.append(index))
    network.train().encode(torch.rand(2, 28, 28))
    network.eval().encode(torch.rand(2, 28, 28))
    assert calls == [first, last] + [first] + [last] * crops


@pytest.mark.parametrize(
    ("images", "numbers", "message"),
    [
        (torch.zeros(2, 28, 28), torch.zeros(2).long(), r"expected uint8 \[N, 28, 28\]"),
        (torch.zeros(2, 1, 28, 28).byte(), torch.zeros(2).long(), r"expected uint8 \[N, 28, 28\]"),
        (torch.zeros(2, 28, 28).byte(), torch.zeros(2), r"expected int64 \[2\]"),
        (torch.zeros(2, 28, 28).byte(), torch.zeros(3).long(), r"expected int64 \[2\]"),
        (torch.zeros(2, 28, 28).byte(), torch.tensor([0, 10]), "range from 0 to 10, expected 0-9"),
        (torch.zeros(2, 28, 28).byte(), torch.tensor([-1, 0]), "range from -1 to 0, expected 0-9"),
    ],
)
def test_the_model_refuses_what_it_would_misread(images, numbers, message):
    with pytest.raises(ValueError, match=message):
        make_network("shift")(images, numbers)


def test_a_damaged_model_file_is_refused(tmp_path):
    (tmp_path / "model").write_bytes(b"garbage")
    with pytest.raises(DigitsumError, match="is not a whole safetensors file"):
        load_model(tmp_path / "model")


@pytest.mark.parametrize(
    ("changed", "config", "message"),
    [
        ({}, {}, "is not a model of this version"),
        ({}, {"fusion": "shift"}, "is not a model of this version"),
        ({}, {"fusion": "shift", "trunk": "small"}, "is not a model of this version"),
        ({}, {**CONFIG, "more": 1}, "is not a model of this version"),
        ({"more": torch.zeros(1)}, CONFIG, "does not fit this version of the network"),
        ({"trunk.classify.bias": torch.full((10,), torch.nan)}, CONFIG, "holds weights that are not finite"),
    ],
)
def test_a_file_that_holds_no_model_is_refused(tmp_path, changed, config, message):
    weights = make_network("shift", trunk="small").state_dict()
    save_tensors(tmp_path / "model", {**weights, **changed}, config)
    with pytest.raises(DigitsumError, match=message):
        load_model(tmp_path / "model")


def test_the_cost_of_a_network_is_counted():
    network = make_network("baseline_concat", trunk="baseline_concat", deskew=False)
    convolutions = 24 * 24 * 6 * (1 * 5 * 5) + 8 * 8 * 12 * (6 * 5 * 5)
    places = 28 * 28 * 2 * 3  # where the image is sampled, from its map
    layers = 192 * 10 + 10 * 20 + 212 * 64 + 64 * 10 + 64 * 19  # the first: the trunk gives logits, used or not
    assert cost(network) == {"weights": 19_635, "flop_per_image": 2 * (places + convolutions + layers)}
    assert network.training


BAD_WEIGHTS = {
    "pixel_std 0": ("pixel_std", lambda tensor: tensor * 0, "weights whose answers are not finite"),
    "pixel_std below 0": ("pixel_std", lambda tensor: -tensor, "variances below 0"),
    "variance below 0": ("trunk.embed.1.1.running_var", lambda tensor: tensor - 1.000001, "variances below 0"),
    "answers that overflow": ("trunk.classify.weight", lambda tensor: tensor.sign() * 3e38, "answers are not finite"),
    "a number's answer that overflows": (
        "fusion.number_vectors.weight",
        lambda tensor: tensor + torch.tensor([0.0] * 7 + [3e38] + [0.0] * 2).unsqueeze(1),
        "answers are not",
    ),
    "int64": ("trunk.classify.bias", lambda tensor: tensor.long(), "bias is int64 [10], expected float32 [10]"),
    "complex": ("pixel_mean", lambda tensor: tensor + 0j, "pixel_mean is complex64 [], expected float32 []"),
    "another shape": ("pixel_mean", lambda tensor: tensor.view(1), "pixel_mean is float32 [1], expected float32 []"),
}


@pytest.mark.parametrize("fault", BAD_WEIGHTS)
def test_a_model_whose_answers_cannot_be_right_is_refused_in_one_line(fault, tmp_path):
    name, spoil, message = BAD_WEIGHTS[fault]
    torch.manual_seed(0)
    save_model(tmp_path / "model", make_network("add", 0.1, 0.3, trunk="small"))
    tensors, config = load_tensors(tmp_path / "model")
    save_tensors(tmp_path / "spoiled", {**tensors, name: spoil(tensors[name])}, config)
    with pytest.raises(DigitsumError, match=re.escape(message)) as caught:
        load_model(tmp_path / "spoiled")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("images", [np.zeros((1, 28, 28), np.uint8), [[0]], 3, torch.zeros(1, 28, 28).byte()])
def test_what_is_no_tensor_is_named_with_how_to_make_one(images):
    kinds = r"(images are of type (ndarray|list|int)|numbers are of type int), expected a torch tensor: torch.tensor\("
    with pytest.raises(ValueError, match=kinds):
        make_network("shift")(images, 3)
