"""Every command of a page runs, in a clone of the whole project on tiny data, and prints what it should."""

import re
import shlex
import subprocess

import pytest
from harness.project import ROOT, install

LISTED = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True)
PAGES = LISTED.stdout.splitlines()
# What a command prints, as a regular expression. Those that may print nothing have "".
PRINTS = {
    "source .venv/bin/activate": "",
    "dvc repro": "Data and pipelines are up to date",
    "make repro": r"Data and pipelines are up to date|Running stage 'train'(.*\n)*.*Running stage 'export'",
    "make check": r"^fetch: as dvc.lock records it\n(.*\n)*export: as dvc.lock records it$",
    "make report BASE=HEAD": r"report/report.md: (worse|better|within noise|no change)",
    "make report BASE=main": r"report/report.md: (worse|better|within noise|no change)",
    "digitsum report": "^## No change",
    "digitsum report main my-branch": r"^## No change\n\n`my-branch \(\w+\)` against `main \(\w+\)`",
    "digitsum report HEAD idle-gull": r"Changed parameters: `evaluate.mistakes_shown` 40 → 3$",
    "digitsum report main --output FOLDER": "FOLDER/report.md: no change",
    "digitsum report main --fail-on worse": "^## No change",
    "make plots": r"dvc_plots/index.html: \d",
    "make plots BASE=HEAD": r"dvc_plots/index.html: \d",
    "dvc exp run -S model.fusion=concat": r"Running stage 'train'(.*\n)*.*Running stage 'evaluate'",
    "dvc exp run -S model.fusion=concat -S train.lr=0.005": r"Running stage 'train'(.*\n)*.*Running stage 'evaluate'",
    "dvc params diff": r"model.fusion +shift +concat",
    "dvc params diff && dvc metrics diff": (
        r"model.fusion +shift +concat(.*\n)*metrics/evaluate.json +sum.accuracy +\d"
    ),
    "dvc metrics diff": r"metrics/evaluate.json +sum.accuracy +\d",
    "git checkout HEAD . && dvc checkout": "",
    "for seed in 1 2; do dvc exp run --temp -S train.seed=$seed; done": r"(Running stage 'train'(.*\n)*){2}",
    "dvc exp run --queue -S 'model.fusion=choice(concat,add)' && dvc exp run --run-all --jobs 1": "Ran experiment",
    "dvc exp list": r"main:\n",
    "dvc exp show --drop '.*' --keep 'Experiment|model.fusion|train.(seed|epochs|lr)|(digit|sum|joint).accuracy'": (
        r"Experiment .*digit.accuracy +sum.accuracy +joint.accuracy .*model.fusion(.*\n)*.*concat"
    ),
    "dvc exp apply NAME": "Changes for experiment",
    "dvc exp branch NAME another-fusion": "another-fusion",
    "dvc push --run-cache": "pushed",
    "dvc pull --run-cache": "",
    'git tag --message "A version" digitsum@v1.0.0': "",
    "dvc artifacts get . digitsum --out model.safetensors": "Downloaded 1 file",
    "(cd studies && dvc status)": r"up to date|probe:",
    "digitsum verify": r"^\d+ files are as dvc.lock records them$",
    "digitsum verify --repair": r"^\d+ files are as dvc.lock records them$",
    "dvc repro fetch": "Stage 'fetch' didn't change, skipping",
    "make tables": "",
    "python -m benchmarks held_out --folds 3 train.epochs=12": "^mean: errors",
    "git switch -c fusion-concat": "fusion-concat",
    r"sed -i 's/^  fusion: shift$/  fusion: concat/' params.yaml": "",
    'git add --all && git commit -m "Concatenate"': "Concatenate",
}
ELSEWHERE = {
    "git checkout --merge dvc.lock": "test_remote.py, with a conflict",
    "git commit --all": "the same",
    "python3 -m venv .venv && . .venv/bin/activate": "it downloads 3 GB: tried by hand, 3.11 and 3.12",
    "pip install -r requirements.lock && pip install --no-deps -e .": "the same",
    "uv venv && . .venv/bin/activate": "tried by hand, 3.13",
    "uv pip install -r requirements.lock && uv pip install --no-deps -e .": "the same",
    "make test": ".ci/run calls it, and this test with it",
    "make lint": ".ci/run",
    "pip install 'dvc[s3]'": "tried by hand, beside the locked packages",
    "dvc remote add --default storage s3://bucket/digitsum": "test_remote.py, with a folder",
    'git commit .dvc/config -m "Add a remote"': "test_remote.py",
    "dvc exp push origin NAME": "test_remote.py",
    "make studies": "test_studies.py",
    "cd studies/fusions && dvc repro": "test_studies.py",
    "make seeds": "test_benchmarks.py, with small recipes",
    "python -m studies.seeds --names default --seeds 10": "the same",
    "make card": "test_model_card.py; it needs several seeds",
    "digitsum predict docs/pictures/drawing.png --number 5": "test_prediction.py; the tiny model is not sure of it",
    "digitsum predict docs/pictures --number 5 --json": "the same",
    "digitsum predict - --number 5 < docs/pictures/drawing.png": "the same",
    "digitsum predict docs/pictures --number 5 --show sheet.png": "the same",
    "make demo": "it opens a browser; test_page.py has the page",
    "make bench": "test_benchmarks.py, with small sizes, as the rest",
    "python -m benchmarks speed --follow pytorch_examples": "test_benchmarks.py",
    "make profile": "test_benchmarks.py",
    "make scaling": "test_benchmarks.py",
    "make epoch-time": "test_benchmarks.py",
    "make gpu": "test_benchmarks.py, on a CPU; once on an NVIDIA H200",
    "python -m benchmarks gpu --device cpu": "test_benchmarks.py",
    'scale/cards.sh 2 model.fusion=concat "model.fusion=film train.seed=1" train.lr=0.005': "test_scale.py",
    "MASTER_KEY=$(openssl rand -hex 16) torchrun --nproc-per-node=2 --no-python scale/worker.sh": "test_scale.py",
    "sbatch --ntasks=4 scale/train.sh": "the same, on a real Slurm",
    'sbatch --array=0-1 scale/sweep.sh model.fusion=concat "model.fusion=film train.seed=1"': "the same",
    "sky launch --env EXPERIMENT=train.seed=1 --env REPOSITORY=URL --env BUCKET=s3://NAME scale/skypilot.yaml": (
        "the file was checked by hand with SkyPilot 0.14.1; test_scale.py runs the script that it calls",
    ),
    "pipx install pre-commit && pre-commit install": "test_packaging.py compares the hooks with make lint",
    "pipx run pre-commit run --all-files": "the same",
}


def commands_of(page):
    """Return the lines of a page's shell blocks, without comments."""
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)
    lines = [re.sub(r"(^| +)# .*", "", line).rstrip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_is_tried_here_or_elsewhere(page):
    known = PRINTS.keys() | ELSEWHERE.keys()
    assert [line for line in commands_of(page) if line not in known] == []


def test_no_command_is_tried_that_no_page_shows():
    shown = {line for page in PAGES for line in commands_of(page)}
    assert (PRINTS.keys() | ELSEWHERE.keys()) - shown == set()


@pytest.fixture(scope="module")
def clone(tmp_path_factory, tiny_mnist, finished):
    """Return a copy of the finished project, studies included, with a remote, an experiment and another branch."""
    project = finished.copy(tmp_path_factory.mktemp("docs") / "project")
    assert (project.folder / "studies/README.md").exists()
    remote = tmp_path_factory.mktemp("remote")
    project.succeed("dvc", "remote", "add", "--default", "storage", str(remote))
    project.succeed("git", "commit", "--all", "--quiet", "--message", "Add a remote")
    project.succeed("dvc", "exp", "run", "--name", "idle-gull", "--set-param", "evaluate.mistakes_shown=3")
    project.succeed("bash", "-c", "git checkout HEAD . && dvc checkout && git branch my-branch")
    return project


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if commands_of(page)])
def test_the_commands_of_a_page_run_one_after_another_and_print_what_they_should(clone, tmp_path, page):
    project = install(clone.copy(tmp_path / "project"))
    for line in commands_of(page):
        if line in PRINTS:
            name = project.succeed("dvc", "exp", "list", "--name-only").split()
            command = line.replace("NAME", name[0]) if "NAME" in shlex.split(line) else line
            printed = project.succeed("bash", "-c", f". .venv/bin/activate; {command}")
            assert "Traceback" not in printed
            assert re.search(PRINTS[line], printed, re.M), f"{command} printed:\n{printed}"


@pytest.mark.parametrize("page", PAGES)
def test_every_path_that_a_page_links_to_exists(page):
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", (ROOT / page).read_text())
    paths = [link for link in links if not link.startswith("http")]
    assert [path for path in paths if not (ROOT / page).parent.joinpath(path).exists()] == []
