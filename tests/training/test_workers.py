"""Workers: how many there are changes no bit, and one that ends is named."""

import dataclasses
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from harness.tiny_mnist import split_raw
from harness.training import CPU, settings, train, weights_of

from digitsum.core.errors import DigitsumError
from digitsum.data.splits import load_split, save_split
from digitsum.training import batches as module
from digitsum.training import link
from digitsum.training import workers as module_of_workers
from digitsum.training.batches import batches, windows
from digitsum.training.checkpoint import Checkpoint
from digitsum.training.link import Link
from digitsum.training.workers import Workers, release, start_workers


@pytest.fixture
def workers(monkeypatch):
    """Return a function that starts so many workers."""

    def start(count):
        monkeypatch.setattr("digitsum.training.workers.cores", lambda: count)
        return start_workers(4, CPU)

    return start


def trained(splits, workers, count, checkpoint=None, **changes):
    with workers(count) as started:
        assert started.count == count
        return weights_of(train(splits, workers=started, checkpoint=checkpoint, shards=4, **changes)[0])


@pytest.mark.parametrize(
    ("fusion", "trunk", "batch_size", "several"),
    [
        ("shift", "strided", 58, [3]),  # two pairs at the end, each a shard: one worker has nothing to do
        pytest.param("concat", "tiny", 50, [2, 4], marks=pytest.mark.slow),
        pytest.param("baseline_add", "baseline_add", 87, [2], marks=pytest.mark.slow),  # no batch normalisation
    ],
)
def test_any_number_of_workers_gives_the_same_bits(splits, workers, fusion, trunk, batch_size, several):
    changes = {"fusion": fusion, "trunk": trunk, "batch_size": batch_size, "redraw_numbers": fusion != "shift"}
    alone, *others = (trained(splits, workers, count, **changes) for count in (1, *several))
    assert all(torch.equal(weights, alone) for weights in others)


def test_a_run_that_was_killed_continues_with_other_workers_to_the_same_bits(splits, workers, tmp_path):
    whole = trained(splits, workers, 1)
    checkpoint = Checkpoint(tmp_path / "checkpoint", "key", interval=0)
    save, saved = checkpoint.save, []

    def save_and_stop(state):
        save(state)
        saved.append(1)
        if len(saved) == 9:
            raise KeyboardInterrupt

    checkpoint.save = save_and_stop
    with pytest.raises(KeyboardInterrupt):
        trained(splits, workers, 2, checkpoint)
    assert torch.equal(trained(splits, workers, 1, Checkpoint(tmp_path / "checkpoint", "key")), whole)


def test_a_split_is_read_from_its_file_or_sent_where_it_is_not(splits, workers, tmp_path, monkeypatch):
    alone = trained(splits, workers, 1)
    path, sent = tmp_path / "train", []
    monkeypatch.setattr(Link, "send", lambda self, tensor, send=Link.send: (sent.append(tensor), send(self, tensor)))
    save_split(path, splits["train"])
    from_file = {**splits, "train": load_split(path)}
    assert torch.equal(trained(from_file, workers, 2), alone)
    assert not any(tensor.shape == splits["train"].images.shape for tensor in sent)
    save_split(path, splits["test"])  # the other worker finds a file with another identity
    elsewhere = dataclasses.replace(splits["train"], source=from_file["train"].source)
    assert torch.equal(trained({**splits, "train": elsewhere}, workers, 2), alone)
    assert any(tensor.shape == splits["train"].images.shape for tensor in sent)


def test_shards_are_parts_of_the_batch_that_one_worker_or_another_has(splits):
    params = settings(batch_size=50, shards=4)
    of_workers = (batches(splits["train"], params, 1, 0, 7, *worker) for worker in ((0, 1), (0, 2), (1, 2)))
    for whole, *parts in zip(*of_workers, strict=True):
        assert [len(shard.digits) for shard in whole.own] == [13, 13, 12, 12]
        assert [shard.place for part in parts for shard in part.own] == [0, 2, 1, 3]
        for shard in (shard for part in parts for shard in part.own):
            same = whole.own[shard.place]
            assert all(torch.equal(a, b) for a, b in zip(shard[1:], same[1:], strict=True))


def test_each_shard_is_normalised_by_itself_and_the_mean_of_their_statistics_is_kept(splits):
    # A rate that changes nothing, and shards of equal sizes: the first layer sees the same pixels.
    one, two = (train(splits, shards=shards, lr=1e-9, average_decay=0.0)[0].state_dict() for shards in (1, 2))
    mean, variance, count = (
        f"trunk.embed.0.1.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")
    )
    torch.testing.assert_close(two[mean], one[mean], rtol=1e-4, atol=1e-5)
    assert not torch.equal(two[variance], one[variance])
    torch.testing.assert_close(two[variance], one[variance], rtol=0.1, atol=0)
    assert one[count] == two[count] == 14  # a step counts once


def test_more_pairs_than_a_window_are_shuffled_block_by_block(monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 4)
    monkeypatch.setattr(module, "WINDOW", 41)
    parts = list(windows(406, 2, torch.Generator().manual_seed(0)))
    assert [len(part) for part in parts] == [40] * 10 + [6]
    assert {part.dtype for part in parts} == {torch.int32}
    assert sorted(torch.cat(parts).tolist()) == list(range(406))
    assert {pair // 4 for pair in parts[0].tolist()} != set(range(10))
    for part in parts[:-1]:
        assert len({pair // 4 for pair in part.tolist()}) == 10
        assert part.tolist() != sorted(part.tolist())
    (within,) = windows(41, 2, torch.Generator().manual_seed(0))
    assert torch.equal(within, torch.randperm(41, generator=torch.Generator().manual_seed(0)).int())


def test_a_file_that_is_replaced_while_windows_are_read_is_refused(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "WINDOW", 150)
    monkeypatch.setattr(module, "BLOCK", 4)
    splits = split_raw(raw)
    save_split(tmp_path / "train", splits["train"])
    windows_of = batches(load_split(tmp_path / "train"), settings(batch_size=25), 1, 0, 14)
    next(windows_of)
    save_split(tmp_path / "train", splits["test"])
    with pytest.raises(DigitsumError, match="was replaced while it was read"):
        list(windows_of)


@pytest.mark.parametrize("pairs_per_image", [1, 3])
def test_windows_read_from_a_file_give_the_bits_of_memory(raw, tmp_path, monkeypatch, pairs_per_image):
    monkeypatch.setattr(module, "BLOCK", 4)
    monkeypatch.setattr(module, "WINDOW", 150)
    split = split_raw(raw, pairs_per_image=pairs_per_image)["train"]
    save_split(tmp_path / "train", split)
    params = settings(batch_size=25, redraw_numbers=True)
    last = len(split) // 25 - 1
    in_memory, in_file = (batches(part, params, 1, 3, last) for part in (split, load_split(tmp_path / "train")))
    for number, (one, other) in enumerate(zip(in_memory, in_file, strict=True), start=3):
        assert (one.step, other.step, number) == (number, number, number)
        for same, shard in zip(one.own, other.own, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(shard[1:], same[1:], strict=True))
    assert number == last - 1


# --- Failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [0, 5])
def test_a_worker_that_dies_is_named_and_ends_all(splits, workers, monkeypatch, step):
    message = r"^worker 2 of 3 has ended with exit code -9; run `dvc repro` again"
    steps = []

    def gather(self, own, shards, gather=Workers.gather):
        if len(steps) == step:
            os.kill(self.children[2].pid, signal.SIGKILL)
        steps.append(1)
        return gather(self, own, shards)

    monkeypatch.setattr(Workers, "gather", gather)
    with pytest.raises(DigitsumError, match=message), workers(3) as started:
        train(splits, workers=started, shards=4)
    assert len(steps) in (step + 1, step + 2)
    assert all(child.poll() is not None for child in started.children.values())


def test_a_worker_that_ends_after_the_last_step_does_no_harm(splits, workers):
    with workers(2) as started:
        train(splits, workers=started, shards=4)
        started.children[1].kill()
        started.children[1].wait()


def test_a_worker_that_cannot_start_is_named(workers, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(DigitsumError, match=r"^worker 1 of 2 ended before training began"), workers(2):
        pass


def test_a_worker_with_other_code_is_refused(workers, monkeypatch):
    monkeypatch.setattr("digitsum.training.workers.FINGERPRINT", "other")
    with pytest.raises(DigitsumError, match=r"^worker 1 of 2 has other code, another PyTorch"), workers(2):
        pass


def test_a_fingerprint_is_of_code_settings_and_with_native_numerics_of_the_processor(tmp_path, monkeypatch):
    copy = tmp_path / "digitsum/training/link.py"
    shutil.copytree(Path(link.__file__).parents[1], tmp_path / "digitsum")
    monkeypatch.setattr(link, "__file__", str(copy))
    assert link.fingerprint() == link.FINGERPRINT
    monkeypatch.setattr(link, "processor", lambda: "another")
    assert link.fingerprint() == link.FINGERPRINT
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    native = link.fingerprint()
    assert native != link.FINGERPRINT
    monkeypatch.setattr(link, "processor", lambda: "a third")
    assert link.fingerprint() != native
    monkeypatch.undo()
    monkeypatch.setattr(link, "__file__", str(copy))
    (tmp_path / "digitsum/model/fusions.py").write_text("# edited")
    assert link.fingerprint() != link.FINGERPRINT


@pytest.mark.parametrize("joined", [True, False])
def test_workers_end_when_worker_0_is_killed(joined):
    code = "import os, torch\nfrom digitsum.training import workers\nworkers.cores = lambda: 2\n"
    code += "def end(children):\n    print(children[1].pid, flush=True)\n    os.kill(os.getpid(), 9)\n"
    if not joined:
        code += "workers._accept = lambda server, count, key, children: end(children)\n"
    code += "with workers.start_workers(2, torch.device('cpu')) as started:\n    end(started.children)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    process, end = int(done.stdout), time.monotonic() + 10
    while running(process):
        assert time.monotonic() < end
        time.sleep(0.1)


def running(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


# --- Workers that a launcher starts ----------------------------------------------------------------------------------


@pytest.fixture
def launcher(monkeypatch, tmp_path):
    """Let this process be worker 0 of two; return a function that starts another one, as a launcher does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1] - 1
    (tmp_path / "params.yaml").write_text("compute: {numerics: portable}\n")
    variables = {"RANK": 0, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "MASTER_KEY": "key"}
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
    started = []

    def start(**variables):
        environment = {**os.environ, "RANK": "1", "PYTHONPATH": os.pathsep.join(sys.path), **variables}
        command = [sys.executable, "-m", "digitsum.training"]
        started.append(subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def launched(launcher):
    """Let this process be worker 0 of two, and start worker 1 as a launcher does; return it."""
    return launcher()


def test_a_worker_of_a_launcher_gives_the_same_bits_in_every_training_until_it_is_released(splits, launched):
    for seed in (1, 2):
        alone = weights_of(train(splits, shards=4, seed=seed)[0])
        with start_workers(4, CPU) as started:
            assert torch.equal(weights_of(train(splits, workers=started, shards=4, seed=seed)[0]), alone)
    release()
    assert (launched.wait(30), launched.stderr.read()) == (0, "")


def test_a_worker_of_a_launcher_says_in_one_line_that_worker_0_has_ended(launched):
    with pytest.raises(DigitsumError, match="diverged"), start_workers(4, CPU):
        raise DigitsumError("training diverged")
    assert (launched.wait(30), launched.stderr.read()) == (1, "error: worker 0 has ended, so this one ends\n")


def test_another_rank_is_told_what_to_start(launcher, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(DigitsumError, match="start `python -m digitsum.training` in its place"), start_workers(4, CPU):
        pass


def test_only_a_worker_with_the_key_may_join(splits, launcher, monkeypatch):
    def knock(server, count, key, children, accept=module_of_workers._accept):
        for message in (b"GET / HTTP/1.1\r\n\r\n", b"", (10**10).to_bytes(8, "little"), b"\2" + bytes(7) + b"[]"):
            with socket.create_connection(("127.0.0.1", server.getsockname()[1])) as stranger:
                stranger.sendall(message)
        other, codes = launcher(MASTER_KEY="other"), []
        next_one = threading.Thread(target=lambda: (codes.append(other.wait(30)), launcher()))
        next_one.start()
        yield from accept(server, count, key, children)
        next_one.join()
        assert codes == [1]

    monkeypatch.setattr(module_of_workers, "_accept", knock)
    alone = weights_of(train(splits, shards=4)[0])
    with start_workers(4, CPU) as started:
        assert torch.equal(weights_of(train(splits, workers=started, shards=4)[0]), alone)


@pytest.mark.parametrize("variables", [{"WORLD_SIZE": "4"}, {"WORLD_SIZE": "3", "RANK": "2"}])
def test_a_worker_of_another_rank_or_number_of_workers_is_refused(launcher, variables):
    launcher(**variables)
    message = r"^a worker joined as RANK \d of WORLD_SIZE \d, expected worker 1 of 2; start each rank once"
    with pytest.raises(DigitsumError, match=message), start_workers(4, CPU):
        pass


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"MASTER_KEY": ""}, "WORLD_SIZE is 2, but MASTER_KEY not set"),
        ({"RANK": "2"}, "RANK is 2, expected 0 to 1"),
        ({"WORLD_SIZE": "two"}, "is not a whole number"),
    ],
)
def test_what_a_launcher_says_wrong_ends_in_one_line(launcher, monkeypatch, variables, message):
    worker = launcher(**variables)
    assert worker.wait(30) == 1
    assert re.fullmatch(f"error: .*{message}.*\n", worker.stderr.read())
