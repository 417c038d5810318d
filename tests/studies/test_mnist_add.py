"""MNIST-Add: the head is exact, the sums are drawn by seed, results are those that the page shows."""

import dataclasses
import itertools
import json
import random
import re
from concurrent.futures import Future

import pytest
import torch
import yaml
from harness.project import ROOT
from harness.trials import interrupt_and_continue, run_trial

from digitsum.core.errors import DigitsumError
from digitsum.core.runner import Stage
from digitsum.evaluation.predict import ImageFeatures
from digitsum.mnist.idx import RawMnist
from studies.mnist_add import learning, probe, sums, trial
from studies.mnist_add.addition import NEVER, add, decimals, log_probability
from studies.mnist_add.learning import mean_loss, score, train_network
from studies.mnist_add.sums import Addition, draw_examples
from tools.tables import read_rows

STUDY = ROOT / "studies/mnist_add"
VARIANTS = yaml.safe_load((STUDY / "params.yaml").read_text())["variants"]
ADDITION = Addition(num_digits=1, labels="sums", held_out=0, first_smoothing=0.2, first_part=0.1)


# --- The head --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_digits", [1, 2])
def test_the_probability_of_a_sum_is_that_of_all_digits_that_make_it(num_digits):
    generator = torch.Generator().manual_seed(num_digits)
    log_digits = torch.randn(2, 2, num_digits, 10, generator=generator, dtype=torch.float64).log_softmax(-1)
    count = 2 * 10**num_digits - 1
    expected = torch.zeros(2, count, dtype=torch.float64)
    for digits in itertools.product(range(10), repeat=2 * num_digits):
        chosen = torch.tensor(digits).view(1, 2, num_digits)
        picked = log_digits.gather(3, chosen.expand(2, -1, -1).unsqueeze(-1)).sum(dim=(1, 2, 3))
        expected[:, int(add(chosen))] += picked.exp()
    every = torch.arange(count)
    found = torch.stack([log_probability(one.expand(count, -1, -1, -1), every) for one in log_digits]).exp()
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(2, dtype=torch.float64))


def test_digits_that_are_certain_have_the_sum_that_python_gives_and_no_other():
    draws = random.Random(0)
    for _ in range(200):
        first, second = (draws.randrange(10**15) for _ in range(2))
        digits = torch.tensor([[[int(digit) for digit in f"{number:015}"] for number in (first, second)]])
        assert int(add(digits)) == first + second
        assert decimals(torch.tensor([first]), 15).tolist() == digits[:, 0].tolist()
        log_digits = torch.full((1, 2, 15, 10), NEVER).scatter(3, digits.unsqueeze(-1), 0.0)
        assert float(log_probability(log_digits, torch.tensor([first + second]))) == 0
        assert float(log_probability(log_digits, torch.tensor([(first + second) ^ 1]))) < NEVER / 10


@pytest.mark.parametrize("total", [0, 199_999, 10**15, 2 * 10**15 - 2])
def test_gradients_are_finite_even_where_a_sum_is_all_but_impossible(total):
    logits = torch.zeros(1, 2, 15, 10)
    logits[..., 5] = 80.0
    logits.requires_grad_()
    log_probability(logits.log_softmax(-1), torch.tensor([total])).sum().backward()
    assert logits.grad.isfinite().all()
    assert logits.grad.abs().max() > 0.1


def test_smoothing_takes_a_part_of_the_loss_from_a_uniform_distribution():
    logits = torch.randn(8, 10, generator=torch.Generator().manual_seed(0))
    digits = torch.tensor([[[1, 2], [3, 4]], [[5, 6], [7, 8]]])
    log_digits = logits.log_softmax(1)
    log_correct = log_probability(log_digits.view(2, 2, 2, 10), torch.tensor([46, 134])).sum() / 8
    expected = -(0.8 * log_correct + 0.2 * log_digits.mean())
    torch.testing.assert_close(mean_loss(logits, digits, "sums", 0.2), expected)
    expected = torch.nn.functional.cross_entropy(logits, digits.flatten(), label_smoothing=0.2)
    torch.testing.assert_close(mean_loss(logits, digits, "digits", 0.2), expected)


def test_with_sums_as_labels_digits_that_make_the_same_sum_are_the_same_label():
    logits = torch.randn(4, 10, generator=torch.Generator().manual_seed(0))
    one, other = (torch.tensor([digits]) for digits in ([[1, 9], [2, 8]], [[0, 0], [4, 7]]))
    assert torch.equal(*(mean_loss(logits, digits, "sums", 0.0) for digits in (one, other)))


# --- The sums --------------------------------------------------------------------------------------------------------


def mnist(train=600, test=100):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (train + test, 28, 28), generator=generator, dtype=torch.uint8).numpy()
    labels = torch.randint(0, 10, (train + test,), generator=generator, dtype=torch.uint8).numpy()
    return RawMnist(images[:train], labels[:train], images[train:], labels[train:])


@pytest.mark.parametrize(
    ("num_digits", "training", "test"), [(1, 30_000, 5_000), (2, 15_000, 2_500), (4, 7_500, 1_250), (15, 2_000, 333)]
)
def test_the_sums_are_those_of_the_papers_and_every_image_is_used_once(num_digits, training, test):
    for images, count in ((60_000, training), (10_000, test)):
        rows = sums.draw_rows(images, num_digits, "train", 0)
        assert rows.shape == (count, 2, num_digits)
        assert len(rows.unique()) == rows.numel()


def test_sums_are_a_function_of_the_seed():
    raw, addition = mnist(), dataclasses.replace(ADDITION, num_digits=2)
    (first, test), (again, _), (other, _) = (draw_examples(raw, addition, seed) for seed in (0, 0, 1))
    assert torch.equal(first.rows, again.rows)
    assert not torch.equal(first.rows, other.rows)
    assert not torch.equal(*(sums.draw_rows(100, 2, part, 0) for part in ("train", "test")))
    for examples in (first, test):
        (a, b), (c, d) = examples.digits[examples.rows[7]].tolist()
        assert int(examples.sums[7]) == 10 * (a + c) + b + d


def test_values_can_be_chosen_without_the_test_split():
    raw = mnist()
    training, held_out = draw_examples(raw, dataclasses.replace(ADDITION, held_out=100), 0)
    assert torch.equal(training.images, torch.from_numpy(raw.train_images)[:500])
    assert torch.equal(held_out.images, torch.from_numpy(raw.train_images)[500:])


# --- Training --------------------------------------------------------------------------------------------------------


def variant_of(monkeypatch, name):
    monkeypatch.chdir(STUDY)
    return trial.read_variant(Stage("probe"), name)


def test_a_network_learns_digits_from_sums_alone(monkeypatch):
    """Ten images that are easily told apart, and labels that only their sums tell."""
    variant = variant_of(monkeypatch, "lenet_4")
    generator = torch.Generator().manual_seed(0)
    patterns = torch.randint(0, 2, (10, 7, 7), generator=generator, dtype=torch.uint8).mul(255)
    patterns = patterns.repeat_interleave(4, 1).repeat_interleave(4, 2)
    digits = torch.arange(4000) % 10
    examples = sums.Examples(patterns[digits], digits, sums.draw_rows(4000, 2, "train", 0))
    train = dataclasses.replace(variant.training.train, epochs=8, clean_epochs=8, batch_size=64)
    network = train_network(dataclasses.replace(variant.training, train=train), variant.addition, examples)
    assert score(network, examples) == {"digits": 1.0, "sums": 1.0}


def test_a_sum_is_correct_if_it_is_that_of_the_predicted_digits(monkeypatch):
    examples = sums.Examples(torch.empty(8), torch.tensor([1, 2, 3, 4, 5, 6, 7, 8]), torch.arange(8).view(2, 2, 2))
    # 12 + 34 as 14 + 32, which is the same; 56 + 78 as 56 + 79.
    answers = torch.tensor([1, 4, 3, 2, 5, 6, 7, 9])
    logits = ImageFeatures(torch.nn.functional.one_hot(answers, 10).float(), torch.empty(8))
    monkeypatch.setattr(learning, "encode_images", lambda network, images: logits)
    assert score(None, examples) == {"digits": 0.625, "sums": 0.5}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_probe_has_every_phase_of_its_variants_schedule_and_few_steps(name, monkeypatch):
    full = variant_of(monkeypatch, name).training.train
    short = probe.shortened(full)
    assert (short.clean_epochs > 0) == (full.clean_epochs > 0)
    assert (short.epochs > short.clean_epochs) == (full.epochs > full.clean_epochs)
    assert 10 <= short.epochs * 5 <= 40


def test_trials_depend_on_their_variant_their_seeds_and_digests_and_on_nothing_else():
    block = yaml.safe_load((STUDY / "dvc.yaml").read_text())["stages"]["trial"]["do"]
    assert "deps" not in block
    digests = [{file: ["variants.${key}"]} for file in ("sums.json", "probes.json")]
    assert block["params"] == ["seeds", "variants.${key}", *digests]


@pytest.mark.parametrize(
    ("edit", "changes"),
    [
        ({"lr": 0.002}, True),
        ({"label_smoothing": 0.1}, True),
        ({"first_smoothing": 0.1}, True),
        ({"first_part": 0.9}, True),
        ({"precision": "bfloat16"}, False),  # trunks here compute in float32
    ],
)
def test_a_probe_sees_what_changes_the_weights(edit, changes, monkeypatch):
    variant, raw = variant_of(monkeypatch, "lenet_1"), mnist(2000, 200)
    train = {key: value for key, value in edit.items() if hasattr(variant.training.train, key)}
    edited = dataclasses.replace(
        variant,
        training=dataclasses.replace(variant.training, train=dataclasses.replace(variant.training.train, **train)),
        addition=dataclasses.replace(variant.addition, **{key: edit[key] for key in edit.keys() - train.keys()}),
    )
    assert (probe.probe(edited, raw) != probe.probe(variant, raw)) == changes


# --- The committed results -------------------------------------------------------------------------------------------


def test_the_study_has_the_results_of_its_variants_with_ten_seeds_each_and_no_others(monkeypatch):
    results = {path.stem: json.loads(path.read_text()) for path in (STUDY / "results").glob("*.json")}
    assert results.keys() == VARIANTS.keys()
    for name, result in results.items():
        variant = variant_of(monkeypatch, name)
        assert list(result["seeds"]) == [str(seed) for seed in variant.seeds]
        assert len(variant.seeds) == 10
        assert result["num_digits"] == variant.addition.num_digits
    assert results["lenet_1"]["weights"] == 44_426


@pytest.mark.parametrize(
    ("variant", "least"), [("large_1", 0.992), ("large_2", 0.984), ("large_4", 0.97), ("large_15", 0.89)]
)
def test_sums_alone_teach_the_digits_with_every_seed_in_five_cpu_minutes(variant, least):
    compared = json.loads((STUDY / "comparison.json").read_text())[variant]
    assert compared["sums"]["mean"] >= least
    assert compared["fewest_digits"] >= 0.99
    assert compared["sums"]["mean"] == pytest.approx(compared["independent"], abs=0.01)
    seconds = {row["variant"]: float(row["cpu_seconds"]) for row in read_rows(ROOT / "benchmarks/mnist_add.csv")}
    assert seconds[variant] <= 300
    assert seconds.keys() == VARIANTS.keys(), "run `python -m benchmarks mnist_add`"


# --- The study on tiny data ------------------------------------------------------------------------------------------


tiny_study = pytest.mark.parametrize("study", ["mnist_add"], indirect=True)


@tiny_study
def test_a_trial_continues_after_the_seeds_that_are_done_and_ends_with_the_same_file(study, monkeypatch, capsys):
    monkeypatch.chdir(study.folder)
    monkeypatch.setattr(trial, "ProcessPoolExecutor", InThisProcess)
    sums.main(Stage("sums"))
    probe.main(Stage("probe"))
    interrupt_and_continue(monkeypatch, trial, "lenet_4", "learn")
    assert re.search("continuing from .*/lenet_4.json: seeds 0", capsys.readouterr().out)

    drawn = json.loads((study.folder / "sums.json").read_text())
    drawn["variants"]["lenet_4"] = "0123"
    (study.folder / "sums.json").write_text(json.dumps(drawn))
    with pytest.raises(DigitsumError, match="the sums of lenet_4 are not those of sums.json; run `dvc repro` again"):
        run_trial(trial, "lenet_4")


class InThisProcess:
    """Stands in for ProcessPoolExecutor, in this process."""

    def __init__(self, *_):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, function, *arguments):
        future = Future()
        try:
            future.set_result(function(*arguments))
        except KeyboardInterrupt as interrupt:
            future.set_exception(interrupt)
        return future


@pytest.mark.slow
@tiny_study
def test_one_command_draws_sums_trains_and_compares_and_then_reruns_only_what_changes(study):
    assert study.reproduce() == ["sums", "probe", "trial@lenet_4", "trial@lenet_15_digits", "compare"]
    assert study.reproduce() == []
    compared = json.loads((study.folder / "comparison.json").read_text())
    assert {name: of["num_digits"] for name, of in compared.items()} == {
        "lenet_4": 4,
        "lenet_15_digits": 15,
    }
    assert (study.folder / "plots/sums.png").read_bytes().startswith(b"\x89PNG")

    learning = study.folder / "learning.py"
    learning.write_text(learning.read_text() + "# edited\n")
    assert study.reproduce() == ["probe"]
    learning.write_text(learning.read_text().replace("log_digits.gather(1,", "1.01 * log_digits.gather(1,"))
    assert study.reproduce() == ["probe", "trial@lenet_15_digits"]
    assert "up to date" in study.succeed("dvc", "status")
