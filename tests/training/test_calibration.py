"""Temperatures make probabilities of logits; limits tell what is no digit; the running average of weights warms up."""

import dataclasses

import pytest
import torch
from harness.training import make_network, train
from torch.nn import functional

from digitsum.evaluation.metrics import headline_metrics
from digitsum.evaluation.predict import encode_images, predict
from digitsum.model.evidence import Limits, evidence
from digitsum.model.network import load_model, save_model
from digitsum.training.average import RunningAverage
from digitsum.training.calibration import fit_temperatures, fitted_limits, fitted_temperature


def test_the_temperature_is_that_of_the_lowest_cross_entropy():
    draws = torch.Generator().manual_seed(0)
    logits = torch.randn(500, 10, generator=draws)
    classes = torch.multinomial((2 * logits).softmax(1), 1, generator=draws).flatten()
    temperature = fitted_temperature(logits, classes)
    assert temperature == pytest.approx(0.5, abs=0.05)  # of which the classes were drawn
    losses = [functional.cross_entropy(logits.double() / (temperature * by), classes) for by in (0.99, 1, 1.01)]
    assert min(losses) == losses[1]
    assert fitted_temperature(3 * logits, classes) == pytest.approx(3 * temperature, rel=1e-5)


def test_a_temperature_has_limits_where_all_answers_are_right_or_none():
    sure = functional.one_hot(torch.arange(10)).float()
    assert 1 / 64 <= fitted_temperature(sure, torch.arange(10)) < 0.03  # sharper ones round to the same loss, 0
    assert fitted_temperature(sure, torch.arange(10).roll(1)) == pytest.approx(64)


@pytest.mark.parametrize("fusion", ["shift", "concat"])
def test_temperatures_are_fitted_on_validation_and_change_no_answer(splits, fusion):
    network, _ = train(splits, fusion)
    fitted = network.digit_temperature.item(), network.sum_temperature.item()
    assert fitted[0] != 1
    assert (fitted[0] == fitted[1]) == (fusion == "shift")  # which takes its sums from the digits
    features = encode_images(network, splits["validation"].images)
    calibrated = predict(network, splits["validation"], features)
    network.digit_temperature.fill_(1)
    network.sum_temperature.fill_(1)
    raw = predict(network, splits["validation"], features)
    for answer in ("digit", "sum"):
        assert torch.equal(getattr(calibrated, f"predicted_{answer}s"), getattr(raw, f"predicted_{answer}s"))
        assert getattr(calibrated, f"{answer}_loss").mean() < getattr(raw, f"{answer}_loss").mean()
    fit_temperatures(network, dataclasses.replace(splits["validation"], is_test=True), *[torch.zeros(50, 10)] * 2)
    assert network.digit_temperature == 1


def test_predictions_are_those_of_the_whole_network(splits):
    network, _ = train(splits, "concat")
    images, _, numbers = splits["test"][:]
    with torch.no_grad():
        digits, sums = (logits.softmax(1) for logits in network(images, numbers))
    predictions = predict(network, splits["test"], encode_images(network, images))
    torch.testing.assert_close(predictions.digit_probabilities, digits, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(predictions.sum_probabilities, sums, atol=1e-5, rtol=1e-4)
    assert headline_metrics(predictions, {}, 15)["digit"]["accuracy"] > 0.9


def test_the_average_follows_closely_at_first_and_then_keeps_its_part():
    network = make_network()
    average = RunningAverage(network, 0.99)
    weights, averaged = network.trunk.classify.weight, average.network.trunk.classify.weight
    with torch.no_grad():
        averaged.zero_()
        average.update()
        assert torch.equal(averaged, weights)  # the first step copies
        averaged.zero_()
        weights.fill_(1)
        for _ in range(20):
            average.update()
        assert averaged.min() > 0.99  # with 0.99 from the start it would be 0.18
        before = averaged.clone()
        average.steps.fill_(10_000)
        weights.zero_()
        average.update()
    torch.testing.assert_close(averaged, 0.99 * before)


def test_the_network_that_a_short_training_saves_has_learnt(splits):
    _, history = train(splits, average_decay=0.99, epochs=3)
    assert history[-1].validation.digit_accuracy > 0.9


def test_a_new_network_has_no_temperature():
    network = make_network("concat")
    assert (network.digit_temperature, network.sum_temperature) == (1, 1)


def test_the_limits_are_quantiles_of_the_validation_splits_evidence(splits):
    network, _ = train(splits)
    images, _, numbers = splits["validation"][:]
    with torch.no_grad():
        found = evidence(network(images, numbers)[0])
    assert network.limits.no_digit == pytest.approx(found.min().item(), abs=1e-3)  # 0.2 % of 50
    assert (found < network.limits.unsure - 1e-3).sum() == 4  # 8 %
    as_test = dataclasses.replace(splits["validation"], is_test=True)
    assert fitted_limits(network, as_test, torch.zeros(50, 10)) is None


def test_a_saved_model_carries_its_limits(splits, tmp_path):
    network = make_network(trunk="small")
    for limits in (None, Limits(-4.0, 0.5)):
        network.limits = limits
        save_model(tmp_path / "model", network)
        assert load_model(tmp_path / "model").limits == limits
