"""The README's numbers are those that were measured, with the parameters that stand in params.yaml."""

from conftest import ROOT

from studies import seeds


def test_the_table_of_results_is_the_measured_one(monkeypatch):
    monkeypatch.chdir(ROOT)
    rows = seeds.read_rows()
    assert seeds.markdown(rows) in (ROOT / "README.md").read_text(), "run `make seeds`"


def test_the_results_were_measured_with_the_present_parameters_and_five_seeds_each(monkeypatch):
    monkeypatch.chdir(ROOT)
    rows = seeds.read_rows()
    assert {row["params"] for row in rows} == {seeds.params_digest()}, "run `make seeds`"
    assert {(row["fusion"], row["seed"]) for row in rows} >= {
        (fusion, str(seed)) for fusion in seeds.FUSIONS for seed in range(5)
    }


def test_every_seed_reaches_what_the_project_promises(monkeypatch):
    monkeypatch.chdir(ROOT)
    rows = seeds.read_rows()
    assert min(float(row["joint"]) for row in rows if row["fusion"] == "shift") >= 0.995
    assert min(float(row["sum"]) for row in rows if row["fusion"] == "concat") >= 0.985


def test_every_path_that_the_readme_links_to_exists():
    import re

    text = (ROOT / "README.md").read_text()
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("http")]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
