"""The command `digitsum`."""

import sys

import pytest
import safetensors.torch
import torch
from harness.training import make_network

from digitsum import cli
from digitsum.data.tensors import METADATA, save_tensors
from digitsum.model.network import save_model


@pytest.fixture
def info(monkeypatch, capsys):
    """Return a function that runs `digitsum info` and returns the lines that it prints."""

    def run(file):
        monkeypatch.setattr(sys, "argv", ["digitsum", "info", str(file)])
        cli.main()
        return capsys.readouterr().out.splitlines()

    return run


def test_info_shows_the_config_the_tensors_and_the_identity(tmp_path, info):
    network = make_network("concat", trunk="small")
    save_model(tmp_path / "model", network, device="cpu", numerics="portable")
    lines = info(tmp_path / "model")
    assert lines[:2] == ["deskew: True", "fusion: concat"]
    assert lines[2:4] == ["trained: device cpu, numerics portable", "trunk: small"]
    assert "trunk.classify.weight: float32 [10, 64]" in lines
    assert len(lines) == 4 + len(network.state_dict()) + 1


def test_the_identity_is_that_of_the_content_and_not_of_the_container(tmp_path, info):
    """The same tensors in another order, with more metadata: other bytes, and still the same model."""
    save_model(tmp_path / "one", make_network("concat", trunk="small"))
    with safetensors.safe_open(tmp_path / "one", framework="pt") as file:
        about = file.metadata()[METADATA]
        tensors = {name: file.get_tensor(name) for name in reversed(file.keys())}
    safetensors.torch.save_file(tensors, tmp_path / "other", {METADATA: about, "note": "moved"})
    assert (tmp_path / "one").read_bytes() != (tmp_path / "other").read_bytes()
    assert info(tmp_path / "one")[-1] == info(tmp_path / "other")[-1]
    assert info(tmp_path / "one")[-1].startswith("identity: ")


def test_what_is_no_file_of_tensors_ends_in_one_line(tmp_path, info):
    with pytest.raises(SystemExit, match=r"^error: .*model is missing; `dvc repro` makes it"):
        info(tmp_path / "model")


def test_info_shows_each_value_in_its_line_and_the_identity_of_nobody_else(tmp_path, info):
    forged = "x\nidentity: 0"
    save_tensors(tmp_path / "file", {forged: torch.zeros(1)}, {forged: forged, "trained": {forged: "\x1b[2J\ud800"}})
    lines = info(tmp_path / "file")
    assert [line.startswith("identity: ") for line in lines] == [False, False, False, True]
    assert all(line.isprintable() for line in lines)
    save_tensors(tmp_path / "file", {"identity": torch.zeros(1)})
    with pytest.raises(SystemExit, match="gives a value of its own the name identity"):
        info(tmp_path / "file")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"# Notes of mine", r"is not a whole safetensors file of digitsum .*; if a stage made it, `digitsum verify"),
        (b"", "is not a whole safetensors file of digitsum"),
        (None, "file is not a file"),
    ],
)
def test_a_file_of_somebody_else_is_deleted_on_no_advice_of_ours(tmp_path, info, content, message):
    path = tmp_path / "file"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(SystemExit, match=message):
        info(path)


def test_an_output_that_is_a_file_is_named_in_one_line(project):
    code, printed = project.run(sys.executable, "-m", "digitsum", "report", "HEAD", "--output", "params.yaml")
    assert (code, printed) == (
        1,
        "error: File exists (params.yaml). Nothing half-written was kept: fix this and run it again.\n",
    )
