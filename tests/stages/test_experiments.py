"""Experiments as people do them: every command of the README's part about them, on tiny data."""

import json
import re
import shlex
import subprocess

import pytest
import vl_convert
from harness.browser import CHROMIUM, needs_chromium
from harness.project import install, stages_run

pytestmark = pytest.mark.slow

UNDO = "git checkout HEAD . && dvc checkout"  # these commands are those of the pages: see tools/test_docs.py
SHOW = "dvc exp show --drop '.*' --keep 'Experiment|model.fusion|train.(seed|epochs|lr)|(digit|sum|joint).accuracy'"
SWEEP = "dvc exp run --queue -S 'model.fusion=choice(concat,add)' && dvc exp run --run-all --jobs 1"
TITLES = [
    "Validation, and training as it went (dashed); losses in nats",
    "Confusion of the digit, test split",
    "Confusion of the sum, test split",
]


@pytest.fixture(scope="module")
def experiment(finished, tmp_path_factory):
    """Return a copy of the finished project in which an experiment with another fusion has run."""
    project = finished.copy(tmp_path_factory.mktemp("experiment") / "project")
    project.succeed("dvc", "exp", "run", "-S", "model.fusion=concat", "-S", "train.lr=0.00001")
    return project


def test_the_metrics_diff_of_an_experiment_shows_the_headline_and_not_29_classes(experiment):
    difference = json.loads(experiment.succeed("dvc", "metrics", "diff", "--json"))
    assert difference["metrics/evaluate.json"]["sum.accuracy"]["diff"] < 0
    assert "metrics/per_class.json" not in difference


def test_plots_diff_draws_both_revisions_with_labels_in_numeric_order(experiment):
    """The built-in confusion template sorts labels as text: 0, 1, 10, 11, ..."""
    experiment.succeed("dvc", "plots", "diff", "HEAD", "workspace", "--out", "dvc_plots")
    html = (experiment.folder / "dvc_plots/index.html").read_text()
    specs = [json.JSONDecoder().raw_decode(html, match.end())[0] for match in re.finditer("var spec = ", html)]
    assert [spec["title"] for spec in specs] == TITLES
    drawings = [vl_convert.vegalite_to_svg(spec) for spec in specs]
    for drawing in drawings:
        assert ">HEAD</text>" in drawing
        assert ">workspace</text>" in drawing
    for drawing, classes in zip(drawings[1:], [10, 19], strict=True):
        axes = re.findall(r'<g class="mark-text role-axis-label".*?</g>', drawing)
        labels = [[int(text) for text in re.findall(r">(\d+)</text>", axis)] for axis in axes]
        assert labels
        assert all(axis == list(range(classes)) for axis in labels)


def test_an_experiment_is_undone_applied_again_and_made_a_branch(experiment, finished, tmp_path):
    copy = experiment.copy(tmp_path / "copy")
    results = copy.outputs()
    assert results != finished.outputs()
    copy.succeed("sh", "-c", UNDO)
    assert copy.outputs() == finished.outputs()
    assert copy.succeed("git", "status", "--porcelain") == ""
    name = copy.succeed("dvc", "exp", "list", "--name-only").strip()
    copy.succeed("dvc", "exp", "apply", name)
    assert copy.outputs() == results
    copy.succeed("dvc", "exp", "branch", name, "another-fusion")
    assert "fusion: concat" in copy.succeed("git", "show", "another-fusion:params.yaml")


def test_a_run_is_undone_by_the_same_command_though_dvc_has_staged_its_lock_file(project):
    before = project.outputs()
    project.set_param("model.fusion", "add")
    assert "M  dvc.lock" in project.succeed("sh", "-c", "dvc repro && git status --porcelain")
    project.succeed("sh", "-c", UNDO)
    assert project.outputs() == before
    assert "up to date" in project.succeed("dvc", "status")


def test_the_table_of_experiments_has_the_headline_only(experiment):
    header, *rows = experiment.succeed(*shlex.split(SHOW), "--csv").strip().splitlines()
    shown = "Experiment model.fusion train.seed train.epochs train.lr digit.accuracy sum.accuracy joint.accuracy"
    assert set(header.split(",")) == set(shown.split())
    assert len(rows) == 3  # the workspace, the commit, the experiment


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.lrr=1", "Key 'lrr' is not in struct"),
        ("train.shards=ten", 'params.yaml: train.shards is "ten", expected a whole number of at least 1'),
        ("model.fusion=glue", 'params.yaml: model.fusion is "glue", expected one of shift, concat, add'),
    ],
)
def test_a_wrong_setting_is_a_clear_error_and_nothing_is_lost(project, setting, message):
    before = project.outputs()
    assert message in project.fail("dvc", "exp", "run", "-S", setting)
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
    _, committed = json.loads(project.succeed("dvc", "exp", "show", "--json"))
    params = [one["revs"][0]["data"]["params"]["params.yaml"]["data"] for one in committed["experiments"]]
    assert sorted(values["model"]["fusion"] for values in params) == ["add", "concat"]
    assert project.succeed("git", "status", "--porcelain") == ""


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


@needs_chromium
def test_a_browser_without_a_network_draws_the_page(page, tmp_path):
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom"]
    no_network = "--host-resolver-rules=MAP * ~NOTFOUND"
    command = [CHROMIUM, *options, no_network, f"--user-data-dir={tmp_path}", page.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    drawings = re.findall(r'<svg[^>]* class="marks".*?</svg>', dom, re.DOTALL)
    assert len(drawings) == 3
    for title in [*TITLES[:2], "predicted sum", "joint_accuracy"]:
        assert any(title in drawing for drawing in drawings), title


HOSTILE = "<script>document.title='OWNED'</script>"


def test_the_page_runs_no_script_of_a_table_or_a_branch_and_follows_no_link(project, tmp_path):
    table = project.folder / "plots/training.csv"
    table.write_text(f'{table.read_text()}2,loss,"</script>{HOSTILE}",0.5\n')
    project.succeed("git", "checkout", "--quiet", "-b", HOSTILE)
    project.succeed("git", "commit", "--all", "--quiet", "--message", "hostile")
    project.succeed("python", "-m", "tools.plots_page", "main", HOSTILE)
    page = project.folder / "dvc_plots/index.html"
    assert "OWNED" in page.read_text()
    assert HOSTILE not in page.read_text()
    if CHROMIUM:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom"]
        command = [CHROMIUM, *options, f"--user-data-dir={tmp_path / 'browser'}", page.as_uri()]
        dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
        assert "<title>Plots</title>" in dom
        assert dom.count('class="marks"') == 3
    table.unlink()
    table.symlink_to(tmp_path / "a file of the reader")
    code, printed = project.run("python", "-m", "tools.plots_page")
    assert (code, printed.count("\n")) == (1, 1)
    assert printed.startswith("error: plots/training.csv is a link")
    project.succeed("git", "checkout", "plots")
    (project.folder / "elsewhere").symlink_to(tmp_path)
    with (project.folder / "dvc.yaml").open("a") as pipeline:
        pipeline.write("plots: [{studies: {y: {elsewhere/secret.csv: loss}, title: /}}]\n")  # names are no files
    assert "error: elsewhere is a link" in project.run("python", "-m", "tools.plots_page")[1]


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
