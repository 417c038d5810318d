"""Experiments as people do them: every command of the README's part about them, on tiny data."""

import json
import re
import shlex
import shutil
import subprocess

import matplotlib.image
import numpy as np
import pytest
import vl_convert
from harness.project import install, stages_run

from digitsum.model.network import load_model

pytestmark = pytest.mark.slow

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
UNDO = "git checkout HEAD . && dvc checkout"  # these commands are those of the pages: see tools/test_docs.py
SHOW = "dvc exp show --drop '.*' --keep 'Experiment|model.fusion|train.(seed|epochs|lr)|(digit|sum|joint).accuracy'"
SWEEP = "dvc exp run --queue -S 'model.fusion=choice(concat,add)' && dvc exp run --run-all --jobs 1"
LOOP = "for seed in 1 2; do dvc exp run --temp -S train.seed=$seed; done"


@pytest.fixture(scope="module")
def experiment(finished, tmp_path_factory):
    """Return a copy of the finished project in which an experiment with another fusion has run."""
    project = finished.copy(tmp_path_factory.mktemp("experiment") / "project")
    project.printed = project.succeed("dvc", "exp", "run", "-S", "model.fusion=concat", "-S", "train.lr=0.00001")
    return project


def test_another_fusion_reruns_train_and_evaluate_only(experiment):
    assert stages_run(experiment.printed) == ["train", "evaluate"]
    assert load_model(experiment.folder / "models/digitsum.safetensors").model.fusion == "concat"


def test_the_metrics_diff_of_an_experiment_shows_the_headline_and_not_29_classes(experiment):
    difference = json.loads(experiment.succeed("dvc", "metrics", "diff", "--json"))
    assert difference["metrics/evaluate.json"]["sum.accuracy"]["diff"] < 0
    assert "metrics/per_class.json" not in difference


def test_the_params_diff_of_an_experiment_shows_what_was_set(experiment):
    difference = json.loads(experiment.succeed("dvc", "params", "diff", "--json"))
    assert difference == {
        "params.yaml": {
            "model.fusion": {"old": "shift", "new": "concat"},
            "train.lr": {"old": 0.01, "new": 1e-05, "diff": -0.00999},
        }
    }


def test_equal_runs_show_no_difference(project):
    assert project.reproduce(targets=["evaluate"], single_item=True, force=True, run_cache=False) == ["evaluate"]
    for kind in ("metrics", "params"):
        assert project.succeed("dvc", kind, "diff") == ""


def test_plots_diff_draws_both_revisions_with_labels_in_numeric_order(experiment):
    """The built-in confusion template sorts labels as text: 0, 1, 10, 11, ..."""
    experiment.succeed("dvc", "plots", "diff", "HEAD", "workspace", "--out", "dvc_plots")
    html = (experiment.folder / "dvc_plots/index.html").read_text()
    specs = [json.JSONDecoder().raw_decode(html, match.end())[0] for match in re.finditer("var spec = ", html)]
    assert [spec["title"] for spec in specs] == [
        "Validation, and training as it went (dashed); losses in nats",
        "Confusion of the digit, test split",
        "Confusion of the sum, test split",
    ]
    for spec in specs:
        drawing = vl_convert.vegalite_to_svg(spec)
        assert ">HEAD</text>" in drawing
        assert ">workspace</text>" in drawing
    for spec, classes in zip(specs[1:], [10, 19], strict=True):
        drawing = vl_convert.vegalite_to_svg(spec)
        axes = re.findall(r'<g class="mark-text role-axis-label".*?</g>', drawing)
        labels = [[int(text) for text in re.findall(r">(\d+)</text>", axis)] for axis in axes]
        assert labels
        assert all(axis == list(range(classes)) for axis in labels)


def test_an_experiment_is_undone_by_the_readmes_command(experiment, finished, tmp_path):
    copy = experiment.copy(tmp_path / "copy")
    assert copy.outputs() != finished.outputs()
    copy.succeed("sh", "-c", UNDO)
    assert copy.outputs() == finished.outputs()
    assert copy.succeed("git", "status", "--porcelain") == ""


def test_an_experiment_is_applied_and_becomes_a_branch(experiment, tmp_path):
    copy = experiment.copy(tmp_path / "copy")
    name = copy.succeed("dvc", "exp", "list", "--name-only").strip()
    results = copy.outputs()
    copy.succeed("sh", "-c", UNDO)
    copy.succeed("dvc", "exp", "apply", name)
    assert copy.outputs() == results
    copy.succeed("dvc", "exp", "branch", name, "another-fusion")
    assert "fusion: concat" in copy.succeed("git", "show", "another-fusion:params.yaml")


def test_the_table_of_experiments_has_the_headline_only(experiment):
    header, *rows = experiment.succeed(*shlex.split(SHOW), "--csv").strip().splitlines()
    columns = header.split(",")
    assert set(columns) == {
        "Experiment",
        *("model.fusion", "train.seed", "train.epochs", "train.lr"),
        *("digit.accuracy", "sum.accuracy", "joint.accuracy"),
    }
    assert len(rows) == 3  # the workspace, the commit, the experiment


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.lrr=1", "Key 'lrr' is not in struct"),
        ("compute.threads=ten", 'params.yaml: compute.threads is "ten", expected a whole number of at least 1'),
        ("model.fusion=glue", 'params.yaml: model.fusion is "glue", expected one of shift, concat, add'),
    ],
)
def test_a_wrong_setting_is_a_clear_error_and_nothing_is_lost(project, setting, message):
    before = project.outputs()
    code, printed = project.run("dvc", "exp", "run", "-S", setting)
    assert code != 0
    assert message in printed
    assert "Traceback" not in printed
    assert project.succeed("dvc", "exp", "list") == ""
    project.succeed("sh", "-c", UNDO)
    assert project.outputs() == before
    assert project.succeed("git", "status", "--porcelain") == ""


def test_an_experiment_in_a_temporary_copy_runs_the_copys_code(project):
    """An installed digitsum points at another folder: the copy must not run that."""
    metrics = project.folder / "src/digitsum/evaluation/metrics.py"
    metrics.write_text(metrics.read_text() + 'print("the code of the copy runs")\n')
    printed = project.succeed("dvc", "exp", "run", "--temp", "-S", "evaluate.calibration_bins=7")
    assert "the code of the copy runs" in printed
    assert stages_run(printed) == ["evaluate"]
    assert project.succeed("git", "status", "--porcelain").split() == ["M", "src/digitsum/evaluation/metrics.py"]


def test_a_sweep_by_queue_with_one_worker_runs_every_experiment(project):
    project.succeed("sh", "-c", SWEEP)
    assert len(project.succeed("dvc", "exp", "list", "--name-only").split()) == 2
    table = json.loads(project.succeed("dvc", "exp", "show", "--json"))
    fusions = [
        run["revs"][0]["data"]["params"]["params.yaml"]["data"]["model"]["fusion"] for run in table[1]["experiments"]
    ]
    assert sorted(fusions) == ["add", "concat"]
    assert project.succeed("git", "status", "--porcelain") == ""


def test_a_sweep_by_a_loop_runs_every_experiment(project):
    printed = project.succeed("sh", "-c", LOOP)
    assert printed.count("Running stage 'train'") == 2
    assert len(project.succeed("dvc", "exp", "list", "--name-only").split()) == 2


# --- The page of plots that needs no network --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(experiment):
    """Return the page that compares the experiment with the commit before it."""
    experiment.succeed("python", "-m", "tools.plots_page", "HEAD")
    return experiment.folder / "dvc_plots/index.html"


def test_the_page_of_plots_is_complete_in_itself(page):
    html = page.read_text()
    assert not re.findall(r'<(?:script|link)[^>]* (?:src|href)=|<img src="(?:static|http)', html)
    assert html.count('<img src="data:image/png;base64,') == 2 * 4  # four pictures of two revisions


@pytest.mark.skipif(not CHROMIUM, reason="needs chromium; .ci/run installs it where it can")
def test_a_browser_without_a_network_draws_the_page(page, tmp_path):
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--window-size=1200,2400"]
    no_network = "--host-resolver-rules=MAP * ~NOTFOUND"
    picture = tmp_path / "page.png"
    for result in ("--dump-dom", f"--screenshot={picture}"):
        drawn = subprocess.run(
            [CHROMIUM, *options, no_network, f"--user-data-dir={tmp_path}", result, page.as_uri()],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        if result == "--dump-dom":
            dom = drawn.stdout
    titles = [
        "Validation, and training as it went (dashed); losses in nats",
        "Confusion of the digit, test split",
        "predicted sum",
        "joint_accuracy",
    ]
    drawings = re.findall(r'<svg[^>]* class="marks".*?</svg>', dom, re.DOTALL)
    assert len(drawings) == 3
    for title in titles:
        assert any(title in drawing for drawing in drawings), title
    colours = len(np.unique(matplotlib.image.imread(picture).reshape(-1, 4), axis=0))
    assert colours > 100  # a blank page has one


def test_a_letter_that_is_not_ascii_is_an_error_before_an_experiment_and_dvcs_own_settings_avoid_it(finished, tmp_path):
    project = install(finished.copy(tmp_path / "grün"))
    (project.folder / "recipes/quick").write_text("evaluate.mistakes_shown=3")
    code, printed = project.run("make", "quick")
    assert code != 0
    assert "error: a letter that is not ASCII in the path of DVC's cache" in printed
    assert "Traceback" not in printed
    project.succeed("sh", "-c", f"mv .dvc/cache {tmp_path}/ascii && dvc cache dir --local {tmp_path}/ascii")
    assert "Ran experiment" in project.succeed("make", "quick")
    project.succeed("git", "config", "user.name", "Jürgen")
    assert "error: a letter that is not ASCII" in project.run("make", "quick")[1]
