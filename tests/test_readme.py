"""The README's numbers are those that were measured, with the parameters that stand in params.yaml."""

import re
from collections import Counter
from statistics import mean

from conftest import ROOT

from studies import seeds
from studies.measuring import read_rows


def test_the_table_of_results_is_the_measured_one(monkeypatch):
    monkeypatch.chdir(ROOT)
    rows = read_rows(seeds.TABLE)
    assert seeds.markdown(rows) in (ROOT / "README.md").read_text(), "run `make seeds`"


def test_the_results_were_measured_with_the_present_parameters_and_several_seeds(monkeypatch):
    monkeypatch.chdir(ROOT)
    rows = read_rows(seeds.TABLE)
    settings = seeds.variants()
    assert all(row["params"] == seeds.params_digest(settings[row["name"]]) for row in rows), "run `make seeds`"
    runs = Counter((row["name"], row["numerics"]) for row in rows)
    assert runs["default", settings["default"].train.numerics] >= 10, (
        "run `python -m studies.seeds --names default --seeds 10`"
    )
    lines = {name for (name, _), count in runs.items() if count >= seeds.FEWEST_SEEDS}
    assert lines == settings.keys(), "run `make seeds`"


def test_the_mean_over_seeds_reaches_what_the_project_promises(monkeypatch):
    monkeypatch.chdir(ROOT)
    rows = read_rows(seeds.TABLE)
    joint = {name: mean(float(row["joint"]) for row in rows if row["name"] == name) for name in seeds.variants()}
    assert joint["default"] >= 0.9964
    assert joint["light"] >= 0.996
    assert joint["quick"] >= 0.99
    assert joint["best"] >= 0.9975
    assert joint["tiny"] > 0.995
    assert max(int(row["weights"]) for row in rows if row["name"] == "tiny") <= 7500


def test_every_path_that_the_readme_links_to_exists():
    text = (ROOT / "README.md").read_text()
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("http")]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
