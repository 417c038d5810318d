"""What is published: the files of the source distribution and of the wheel, and that the wheel works by itself."""

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml
from harness.project import ROOT, copy_files
from harness.training import make_network

from digitsum.model.network import save_model

VERSION = "9.8.7"  # another than that of the installed project, so that its metadata cannot be taken for the wheel's
NOT_SOURCE = [  # what lies in a working folder and must not be published
    ".dvc/cache/files/md5/00/1122",
    ".dvc/config.local",
    ".dvc/tmp/checkpoints/key/train.safetensors",
    ".env",
    ".venv/pyvenv.cfg",
    "data/raw/train-images-idx3-ubyte",
    "models/digitsum.safetensors",
    "notes.txt",
    "src/digitsum/__pycache__/cli.cpython-311.pyc",
]


@dataclass(frozen=True)
class Built:
    """The two distributions, the files in them without their leading folder, and the modules that git knows."""

    wheel: Path
    sdist_files: set[str]
    wheel_files: set[str]
    modules: set[str]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build both distributions, without a network, from a copy of the project in which work has been done."""
    project, distributions = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("distributions")
    names = copy_files(project)
    for name in NOT_SOURCE:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("secret")
    pyproject = project / "pyproject.toml"
    pyproject.write_text(re.sub(r'(?m)^version = ".*"$', f'version = "{VERSION}"', pyproject.read_text()))
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", distributions, project, folder=project)
    (sdist,), (wheel,) = distributions.glob("*.tar.gz"), distributions.glob("*.whl")
    with tarfile.open(sdist) as archive:
        sdist_files = {name.removeprefix(f"digitsum-{VERSION}/") for name in archive.getnames()}
    with zipfile.ZipFile(wheel) as archive:
        wheel_files = {name.replace(f"digitsum-{VERSION}.dist-info/", "dist-info/") for name in archive.namelist()}
    modules = {name.removeprefix("src/") for name in names if name.startswith("src/digitsum/")}
    return Built(wheel, sdist_files, wheel_files, modules)


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """Install the wheel into an environment that has the project's dependencies, and not the project."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(folder, with_pip=True)
    python = folder / "bin/python"
    run(python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", built.wheel, folder=folder)
    (site_packages,) = folder.glob("lib/python*/site-packages")
    # Folders named in a .pth file are searched, but their own .pth files, such as an editable install's, are not read.
    searched = [path for path in sys.path if Path(path).name == "site-packages"]
    (site_packages / "dependencies.pth").write_text("\n".join(searched))
    return folder / "bin"


def run(*command, folder):
    """Run a command that must succeed, with no module path from outside; give what it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_source_distribution_holds_source_only(built):
    others = {".gitignore", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml"}
    assert built.sdist_files == {f"src/{name}" for name in built.modules} | others


@pytest.mark.slow
def test_the_wheel_holds_the_package_its_types_and_its_licence(built):
    others = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}
    assert built.wheel_files == built.modules | {f"dist-info/{name}" for name in others}
    assert "digitsum/py.typed" in built.wheel_files


@pytest.mark.slow
@pytest.mark.parametrize("command", [["digitsum"], ["python", "-m", "digitsum"]])
def test_an_installed_digitsum_tells_its_version(installed, tmp_path, command):
    assert run(installed / command[0], *command[1:], "--version", folder=tmp_path) == f"digitsum {VERSION}\n"


@pytest.mark.slow
def test_an_installed_digitsum_loads_a_model_outside_the_project(installed, tmp_path):
    network = make_network("concat", trunk="small").eval()
    inputs = torch.full((2, 28, 28), 7, dtype=torch.uint8), torch.tensor([3, 8])
    save_model(tmp_path / "model", network)
    torch.save(inputs, tmp_path / "inputs")
    script = """
import digitsum, torch
from digitsum import load_model
with torch.no_grad():
    logits = load_model("model")(*torch.load("inputs"))
torch.save([digitsum.__file__, *logits], "outputs")
"""
    run(installed / "python", "-c", script, folder=tmp_path)
    file, *logits = torch.load(tmp_path / "outputs")
    assert Path(file).is_relative_to(installed.parent)
    with torch.no_grad():
        torch.testing.assert_close(logits, list(network(*inputs)), atol=1e-5, rtol=1e-5)


def test_the_citation_is_of_the_present_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version


def test_both_locks_pin_the_same_versions_with_hashes():
    pins = {}
    for name in ("requirements.lock", "requirements-test.lock"):
        requirements = re.split(r"\n(?=\S)", re.sub(r"(?m)^\s*#.*\n", "", (ROOT / name).read_text()))
        assert all("--hash=sha256:" in requirement for requirement in requirements)
        pins[name] = {requirement.partition(" \\")[0] for requirement in requirements}
    assert pins["requirements.lock"] < pins["requirements-test.lock"]


def test_pre_commit_runs_what_make_lint_runs():
    (hooks,) = (repo["hooks"] for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"])
    recipe = re.search(r"(?m)^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text()).group(1)
    commands = {command.strip() for command in re.split(r"&&|\n", recipe.replace("$(IN_VENV)", ""))} - {""}
    for hook in hooks:  # pre-commit adds the names of the files, if it passes them
        entry = hook["entry"].removeprefix(".venv/bin/")
        found = {command for command in commands if command == entry or command.startswith(f"{entry} .github/")}
        assert len(found) == 1, entry
        commands -= found
    assert not commands
