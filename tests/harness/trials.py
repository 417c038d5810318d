"""A trial of a study that is interrupted."""

from pathlib import Path

import pytest

from digitsum.core.runner import Stage


def run_trial(trial, name):
    """Run the stage trial, a module, for one variant, as the runner does."""
    stage = Stage("trial")
    trial.main(stage, name)
    stage.remove_checkpoints()


def interrupt_and_continue(monkeypatch, trial, name, train):
    """Run a trial whole, then interrupted in its second seed and continued: it has to end with the same file.

    train: the function of `trial` that trains with one seed. Returns the list to which it adds the seeds from now on;
    another training is interrupted when that list is [0, 1].
    """
    result, trained, with_one_seed = Path(f"results/{name}.json"), [], getattr(trial, train)

    def interrupted(variant, seed, *more):
        trained.append(seed)
        if trained == [0, 1]:
            raise KeyboardInterrupt
        return with_one_seed(variant, seed, *more)

    run_trial(trial, name)
    uninterrupted = result.read_bytes()
    result.unlink()
    monkeypatch.setattr(trial, train, interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_trial(trial, name)
    assert not result.exists()
    run_trial(trial, name)
    assert trained == [0, 1, 1]
    assert result.read_bytes() == uninterrupted
    return trained
