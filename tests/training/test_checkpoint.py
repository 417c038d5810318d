"""A training run that goes on from a checkpoint ends with the bits of one that was never interrupted."""

import os
from pathlib import Path

import pytest
import torch
from harness.training import make_network, train, weights_of
from torch import nn

from digitsum.core.errors import DigitsumError
from digitsum.core.runner import Stage
from digitsum.data.tensors import load_tensors, save_tensors
from digitsum.training.checkpoint import Checkpoint


class Killed(Exception):
    pass


class Deadly(Checkpoint):
    """Saves after every step, and ends the run when it has saved so many times."""

    def __init__(self, path, savings):
        super().__init__(path, "key", interval=0)
        self.left = savings

    def save(self, state):
        super().save(state)
        self.left -= 1
        if self.left == 0:
            raise Killed


@pytest.fixture(autouse=True)
def with_dropout(monkeypatch):
    """Give every network a layer that draws random numbers: these must continue, too."""

    def new_network(model, training):
        network = make_network(model.fusion, 0.2, 0.3, model.trunk)
        network.trunk.embed.append(nn.Dropout(0.5))
        return network

    monkeypatch.setattr("digitsum.training.loop.new_network", new_network)


def run(splits, checkpoint=None, **changes):
    network, history = train(splits, checkpoint=checkpoint, **changes)
    return weights_of(network), history


@pytest.fixture
def killed(splits, tmp_path):
    """Return the file of a run that was killed in its first epoch."""
    path = tmp_path / "checkpoint"
    with pytest.raises(Killed):
        run(splits, Deadly(path, 3))
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {"average_decay": 0.9},
        {"average_decay": 0},
        {"optimizer": "sgd"},
        {"fusion": "baseline_concat"},  # which leaves weights of the trunk unused: the optimizer keeps nothing of them
    ],
)
@pytest.mark.parametrize("savings", [1, 4, 7, 8, 9, 15, 16])  # two epochs of 7 steps, and one saving after each
def test_a_run_goes_on_to_the_same_bits_from_every_step(splits, tmp_path, savings, changes):
    path = tmp_path / "checkpoint"
    weights, history = run(splits, **changes)
    with pytest.raises(Killed):
        run(splits, Deadly(path, savings), **changes)
    gone_on, history_gone_on = run(splits, Checkpoint(path, "key"), **changes)
    assert torch.equal(gone_on, weights)
    assert history_gone_on == history


def test_a_run_with_other_inputs_starts_from_the_beginning(splits, killed, capsys):
    weights, _ = run(splits)
    again, _ = run(splits, Checkpoint(killed, "other key"))
    assert torch.equal(again, weights)
    assert "continuing" not in capsys.readouterr().out


def test_a_file_that_does_not_fit_is_refused(splits, killed):
    tensors, progress = load_tensors(killed)
    save_tensors(killed, tensors | {"network.fusion.extra": torch.zeros(1)}, progress)
    with pytest.raises(DigitsumError, match="holds other tensors than this run; delete it"):
        run(splits, Checkpoint(killed, "key"))


def test_a_saving_inside_an_epoch_waits_for_its_interval(tmp_path):
    assert Checkpoint(tmp_path / "checkpoint", "key", interval=0).is_due()
    assert not Checkpoint(tmp_path / "checkpoint", "key").is_due()


def test_the_digest_of_a_stages_inputs_changes_with_each(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    code, data = Path("src/digitsum/training/loop.py"), Path("data/paired/train.safetensors")
    content = data.read_bytes()
    data.unlink()  # it may be a link into DVC's cache
    data.write_bytes(content)
    digests = [Stage("train").digest("2.14.1"), Stage("train").digest("2.15.0")]
    os.utime(data, (0, 0))
    assert Stage("train").digest("2.14.1") == digests[0]
    for edit in (
        lambda: project.set_param("train.lr", 0.02),
        lambda: code.write_text("# other code\n"),
        lambda: data.write_bytes(content[:-1] + bytes([content[-1] ^ 1])),
    ):
        edit()
        digests.append(Stage("train").digest("2.14.1"))
    assert len(set(digests)) == 5


def test_a_file_whose_time_alone_changed_is_no_changed_input(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    stage = Stage("train")
    data = Path("data/paired/train.safetensors")
    os.utime(data, (0, 0))
    stage.refuse_changed_inputs()
    content = data.read_bytes()
    data.unlink()
    data.write_bytes(content[::-1])
    os.utime(data, (0, 0))
    with pytest.raises(DigitsumError, match=f"^{data} changed while stage train ran"):
        stage.refuse_changed_inputs()


def test_a_run_whose_input_changed_trains_no_step_again_once_it_is_restored(project):
    params, edit = project.folder / "params.yaml", project.folder / "edited"
    network = project.folder / "src/digitsum/model/network.py"
    network.write_text(
        network.read_text()
        + f"""
from pathlib import Path  # runs when the stage is under way, as a person with an editor
if not Path("{edit}").exists():
    Path("{edit}").touch()
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("lr: 0.01", "lr: 0.02"))
"""
    )
    before = params.read_text()
    printed = project.fail("python", "-m", "stages", "train")
    assert "error: params.yaml: train.lr changed while stage train ran" in printed
    params.write_text(before)
    assert "train.safetensors: epoch 2, step 0" in project.succeed("python", "-m", "stages", "train")  # of one epoch
    assert not list(project.folder.glob(".dvc/tmp/checkpoints/*"))


def test_checkpoints_of_copies_lie_in_the_project_and_old_ones_are_removed(finished, project, monkeypatch):
    copy = finished.copy(project.folder / ".dvc/tmp/exps/standalone/tmp1")
    monkeypatch.chdir(copy.folder)
    old, recent, other = ("0" * 64, "1" * 64, "not a checkpoint")
    for name in (old, recent, other):
        folder = Stage("train").checkpoints(name)
        assert folder == project.folder / ".dvc/tmp/checkpoints" / name
        folder.mkdir(parents=True)
        os.utime(folder, None if name == recent else (0, 0))
    Stage("train").checkpoints("2" * 64)
    assert {folder.name for folder in (project.folder / ".dvc/tmp/checkpoints").iterdir()} == {recent, other}


def test_checkpoints_may_lie_where_other_machines_reach_them(project, monkeypatch, tmp_path):
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("DIGITSUM_CHECKPOINTS", str(tmp_path))
    assert Stage("train").checkpoints("key") == tmp_path / "key"
