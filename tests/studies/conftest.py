"""A study of a project on tiny data."""

import shutil

import pytest
import yaml
from harness.project import Project, copy_project
from harness.tiny_mnist import DIGEST_KEYS

VARIANTS = {"fusions": ("shift", "film"), "mnist_add": ("lenet_4", "lenet_15_digits")}


@pytest.fixture
def study(tmp_path, tiny_mnist, request):
    """Return one study of a project on tiny data, with two seeds; few variants, and of the fusions no comparison."""
    folder = copy_project(tmp_path / "project", tiny_mnist).folder
    (folder / "data/raw").mkdir(parents=True)
    for name, content in tiny_mnist.contents.items():
        (folder / "data/raw" / name).write_bytes(content)
    inner = folder / "studies" / request.param
    for pipeline in (folder / "studies").glob("*/dvc.yaml"):
        if pipeline.parent != inner:
            shutil.rmtree(pipeline.parent)
    project = Project(inner, tiny_mnist.folder)
    project.succeed("rm", "-r", "dvc.lock", "probes.json", "results", "plots")
    (inner / "sums.json").unlink(missing_ok=True)
    params = yaml.safe_load((inner / "params.yaml").read_text())
    params["mnist"] = {DIGEST_KEYS[name]: digest for name, digest in tiny_mnist.digests.items()}
    params["train"]["batch_size"] = 34
    params["seeds"] = [0, 1]
    if kept := VARIANTS.get(request.param):
        params["variants"] = {name: params["variants"][name] for name in kept}
    if request.param == "fusions":
        params["pair"]["validation_size"] = 50
        pipeline = yaml.safe_load((inner / "dvc.yaml").read_text())
        del pipeline["stages"]["compare"]
        (inner / "dvc.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False))
    (inner / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    return project
