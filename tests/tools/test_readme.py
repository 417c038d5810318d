"""The numbers in README and docs are those that were measured, with the parameters that stand in params.yaml."""

import json
import re
from collections import Counter
from pathlib import Path
from statistics import mean, median

import pytest
from harness.project import ROOT

from digitsum.model.network import Network
from studies.seeds import seeds
from tools import results
from tools.recipes import read_recipes
from tools.tables import read_rows


@pytest.fixture
def rows(monkeypatch):
    """Change to the project's root; return the rows of all seeds."""
    monkeypatch.chdir(ROOT)
    return read_rows(seeds.TABLE)


def test_the_tables_of_results_are_the_measured_ones(rows):
    assert seeds.summary(rows) in (ROOT / "README.md").read_text(), "run `make seeds`"
    assert seeds.full_table(rows) in (ROOT / "benchmarks/README.md").read_text(), "run `make seeds`"


def test_the_page_of_results_is_that_of_the_measurements(rows):
    assert results.table() in results.PAGE.read_text(), "run `make results`"


def test_figures_in_sentences_are_those_of_their_files(rows):
    gpu = json.loads(Path("benchmarks/gpu.json").read_text())
    other_hands = json.loads(Path("studies/other_hands/results.json").read_text())
    images, small = other_hands["MNIST's test images"], other_hands["scikit-learn's digits"]
    weights = {row["name"]: int(row["weights"]) for row in rows}
    compared = json.loads(Path("studies/mnist_add/comparison.json").read_text())
    sums = {name: 100 * of["sums"]["mean"] for name, of in compared.items()}
    added = [sums[f"large_{length}"] - sums[f"lenet_{length}"] for length in (1, 2, 4, 15)]
    seconds = f"{median(gpu['default']['float32']['seconds']):.1f} s"
    for page, figure in [
        ("README.md", f"[{seconds} on an H200]"),
        ("CHANGELOG.md", f"{seconds} on an H200"),
        ("CHANGELOG.md", "{large_1:.1f}, {large_2:.1f}, {large_4:.1f} and {large_15:.1f} %".format(**sums)),
        (
            "studies/README.md",
            "add {:.1f} points with N = 1, {:.1f} with N = 2, {:.0f} with N = 4, and {:.0f} with N = 15".format(*added),
        ),
        (
            "docs/using.md",
            f"{images['sure']:.0%} are sure, and {images['no digit']:.1%} are called no digit".replace("%", " %"),
        ),
        ("studies/README.md", f"{small['correct']:.1%} are correct, {small['sure']:.0%} are sure".replace("%", " %")),
        ("CHANGELOG.md", f"`tiny` has {weights['tiny']:,} weights"),
        ("src/digitsum/model/trunks.py", f"over 99.5 % with {weights['tiny']:,} weights"),
        ("src/digitsum/model/trunks.py", f"over 99 % with {weights['minimal']:,} weights"),
        ("Makefile", f"over 99 % with {weights['minimal']:,} weights"),
        ("Makefile", f"over 99.5 % with {weights['tiny']:,} weights"),
    ]:
        assert figure in " ".join(Path(page).read_text().split()), f"{page} lacks {figure}"


def test_every_recipe_can_be_run_and_is_listed_where_the_others_are():
    recipes = {path.name for path in (ROOT / "recipes").iterdir()}
    for page, pattern in [
        ("Makefile", r"^([a-z ]+): .*\n(?:\t.*\n)*\t.*recipes/\$@"),
        ("README.md", r"^recipes/ .*: make (.*)$"),
        ("docs/working.md", r"^`make (.*)` run the recipes"),
    ]:
        listed = re.search(pattern, (ROOT / page).read_text(), re.M)
        assert set(re.findall(r"[a-z]{4,}", listed[1].replace(" and ", " "))) == recipes, page


def test_the_page_of_results_tells_which_peers_missed_a_goal(monkeypatch):
    seconds = {"brisk": 40.4, "pytorch_examples": 1000.4, "cdeotte": 800.0}
    goal = {"cpu_seconds": {name: {"median": median} for name, median in seconds.items()}, "times_quick": 18.3}
    goal["reached"] = {"brisk": 9, "pytorch_examples": 0, "cdeotte": 1}
    bench = {"measured_on": "AMD EPYC, 2 cores, here", "minutes": 75, "goals": {"99.5 %": goal}}
    monkeypatch.setattr(results, "read", lambda _: bench)
    (claim,) = results.against_peers()
    assert claim.what == "99.5 % beside its peers"
    assert claim.here == "40.4 CPU-seconds; pytorch/examples not reached in 1,000; cdeotte 800"
    assert (claim.minutes, claim.measured_on) == ("75", "AMD EPYC, 2 cores")


def test_the_results_were_measured_with_the_present_parameters_and_several_seeds(rows):
    recipes = read_recipes()
    assert all(row["params"] == recipes[row["name"]].digest for row in rows), "run `make seeds`"
    runs = Counter((row["name"], row["numerics"]) for row in rows)
    enough = "run `python -m studies.seeds --names default --seeds 10`"
    assert runs["default", recipes["default"].training.compute.numerics] >= 10, enough
    assert {name for name, _, _ in seeds.groups(rows)} == recipes.keys(), "run `make seeds`"


def test_all_rows_have_the_weights_of_the_present_networks(rows):
    models = {name: recipe.training.model for name, recipe in read_recipes().items()}
    weights = {name: sum(each.numel() for each in Network(model).parameters()) for name, model in models.items()}
    assert all(int(row["weights"]) == weights[row["name"]] for row in rows), "delete these rows and run `make seeds`"


def test_the_mean_over_seeds_reaches_what_the_project_promises(rows):
    joint = {name: mean(float(row["joint"]) for row in rows if row["name"] == name) for name in read_recipes()}
    assert joint["default"] >= 0.9964
    assert joint["light"] >= 0.996
    assert joint["quick"] >= 0.99
    assert joint["brisk"] >= 0.995
    assert joint["best"] >= 0.9973
    assert joint["tiny"] > 0.995
    assert joint["minimal"] >= 0.99
    assert max(int(row["weights"]) for row in rows if row["name"] == "tiny") < 5000
    assert max(int(row["weights"]) for row in rows if row["name"] == "minimal") < 1000
    for name in ("minimal", "tiny"):
        assert sum(row["name"] == name for row in rows) >= 5
