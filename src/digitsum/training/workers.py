"""Workers: the processes that train one network together, on this machine or on several.

Worker 0 has the weights, the optimizer and the data. At every step it sends the weights to the others, each computes
its shards of the batch and sends back what came out, and worker 0 adds all shards in their order. So the others keep
nothing between steps, and how many there are changes no bit of the result.

Worker 0 starts the others itself, one for each core. Or a launcher such as Slurm or torchrun starts them on several
machines: see `launch` and docs/scale.md.

Messages go over plain sockets: a worker that dies closes its own, which is noticed at once and names it. With PyTorch's
gloo a message to a worker that had just died waited for half an hour.
"""

import contextlib
import dataclasses
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import torch
from torch import Tensor

from digitsum.core.errors import DigitsumError
from digitsum.core.numerics import cores
from digitsum.data.splits import Split
from digitsum.training.devices import device_name
from digitsum.training.link import CONNECTION_ERRORS, END, FINGERPRINT, JOIN_AGAIN, Link, launch
from digitsum.training.params import TrainingParams
from digitsum.training.serve import TENSORS, Job
from digitsum.training.shards import ShardedNetwork

JOIN_TIMEOUT = 30 * 60  # seconds for all workers to join
AGAIN = "run `dvc repro` again: training continues from its last checkpoint"

Process = subprocess.Popen[bytes]


class Workers:
    """Connections from worker 0 to the others; `count` includes worker 0."""

    def __init__(self, links: dict[int, Link] | None = None, children: dict[int, Process] | None = None) -> None:
        """Take the links to worker 1 and the following, by rank, and those of them that this process has started."""
        self._links, self.children = links or {}, children or {}
        self.count = 1 + len(self._links)

    def begin(self, params: TrainingParams, sharded: ShardedNetwork, training: Split, epoch: int, step: int) -> None:
        """Tell the others what to train on and where training begins; wait until they are ready."""
        groups = {name: dataclasses.asdict(getattr(params, name)) for name in ("model", "train", "compute")}
        network, source, device = sharded.network, training.source, training.images.device
        job = Job(
            **groups,
            pixel_mean=network.pixel_mean.item(),
            pixel_std=network.pixel_std.item(),
            device=device.type,
            epoch=epoch,
            step=step,
            path=str(source.path) if source else "",
            identity=source.identity if source else None,
        )
        for rank, link in self._links.items():
            with self._named(rank):
                link.send_json(dataclasses.asdict(job))
                if not link.receive_json()["has_file"]:
                    for name in TENSORS:
                        tensor = getattr(training, name).cpu()
                        link.send_json({"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")})
                        link.send(tensor)
        for rank, link in self._links.items():
            with self._named(rank):
                theirs, ours = link.receive_json()["device"], device_name(device)
            if theirs != ours:
                raise DigitsumError(
                    f"worker {rank} of {self.count} computes on {theirs}, worker 0 on {ours}, which gives other bits; "
                    "start all workers on machines of one kind"
                )

    def broadcast(self, sharded: ShardedNetwork) -> None:
        """Send the network's weights to the others."""
        weights = sharded.weights().cpu() if self._links else torch.empty(0)
        for rank, link in self._links.items():
            with self._named(rank):
                link.send(weights)

    def gather(self, own: Tensor, shards: int) -> Tensor:
        """Return the gradients of all shards of a batch, float [shards, V], in order; `own` are those of worker 0."""
        gradients = own.new_empty(shards, own.shape[1])
        gradients[:: self.count] = own
        for rank, link in self._links.items():
            theirs = gradients[rank :: self.count]
            if len(theirs):
                with self._named(rank):
                    theirs.copy_(link.receive(torch.empty(theirs.shape)))
        return gradients

    def end(self) -> None:
        """Tell the others that this training has ended. One that has ended before does no harm now."""
        for link in self._links.values():
            with contextlib.suppress(*CONNECTION_ERRORS):
                link.send_json(END if self.children else JOIN_AGAIN)
        for child in self.children.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(10)

    @contextlib.contextmanager
    def _named(self, rank: int) -> Iterator[None]:
        try:
            yield
        except CONNECTION_ERRORS:
            how = ", or its machine is gone"
            if rank in self.children:
                how = ""
                with contextlib.suppress(subprocess.TimeoutExpired):
                    how = f" with exit code {self.children[rank].wait(10)}"
            raise DigitsumError(f"worker {rank} of {self.count} has ended{how}; {AGAIN}") from None


@contextlib.contextmanager
def start_workers(shards: int, device: torch.device) -> Iterator[Workers]:
    """Start or join the workers for batches of so many `shards`; stop them at the end.

    As many as the launcher says, or one for each core or GPU. Raises DigitsumError if one does not join, or would give
    other bits.
    """
    launched = launch()
    if launched and launched.rank:
        raise DigitsumError(
            f"this is worker {launched.rank} of {launched.count}: start `python -m digitsum.training` in its place"
        )
    of_machine = {"cpu": cores, "cuda": torch.cuda.device_count}.get(device.type, lambda: 1)
    count = launched.count if launched else min(shards, of_machine())
    if count == 1:
        yield Workers()
        return
    children: dict[int, Process] = {}
    links: dict[int, Link] = {}
    try:
        with socket.create_server(("", launched.address[1]) if launched else ("127.0.0.1", 0)) as server:
            key = launched.key if launched else secrets.token_hex()
            if not launched:
                children |= {rank: _start(rank, count, server.getsockname()[1], key) for rank in range(1, count)}
            for rank, link in _accept(server, count, key, children):
                links[rank] = link
        workers = Workers(dict(sorted(links.items())), children)
        yield workers
        workers.end()
    finally:
        for link in links.values():
            link.close()
        for child in children.values():
            child.kill()
            child.wait()


def release() -> None:
    """End the workers that a launcher has started, when worker 0 will train no more."""
    launched = launch()
    if launched and launched.count > 1:
        with socket.create_server(("", launched.address[1])) as server:
            for _, link in _accept(server, launched.count, launched.key, {}):
                link.send_json(END)


def _start(rank: int, count: int, port: int, key: str) -> Process:
    """Start a worker with the code and the environment of this process. It ends when this process does."""
    variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1"}
    variables |= {"MASTER_PORT": port - 1, "MASTER_KEY": key}
    environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    # A session of its own: Ctrl-C is for worker 0, which then ends this one.
    command = [sys.executable, "-m", "digitsum.training", "--end-with-stdin"]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, start_new_session=True)


def _accept(server: socket.socket, count: int, key: str, children: dict[int, Process]) -> Iterator[tuple[int, Link]]:
    """Yield rank and link of each worker. Raises DigitsumError if one ends instead, is late, or runs other code."""
    missing = list(range(1, count))
    server.settimeout(0.1)
    start, told = time.monotonic(), False
    while missing:
        who = f"worker {', '.join(map(str, missing))} of {count}"
        for rank in missing:
            if children and children[rank].poll() is not None:
                raise DigitsumError(f"worker {rank} of {count} ended before training began; {AGAIN}")
        if time.monotonic() - start > JOIN_TIMEOUT:
            raise DigitsumError(f"{who} has not joined in {JOIN_TIMEOUT} s; start it, and {AGAIN}")
        if time.monotonic() - start > 10 and not told:
            print(f"waiting for {who}", flush=True)
            told = True
        try:
            link = Link(server.accept()[0])
            hello = link.receive_json()
            known = secrets.compare_digest(hello["key"].encode(), key.encode())
            rank, of, fingerprint = hello["rank"], hello["count"], hello["fingerprint"]
        except (*CONNECTION_ERRORS, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            continue  # nobody yet, or a connection that is not a worker's
        if not known:
            link.close()
            continue
        if of != count or rank not in missing:
            raise DigitsumError(
                f"a worker joined as RANK {rank} of WORLD_SIZE {of}, expected {who}; start each rank once, all with "
                "one WORLD_SIZE"
            )
        if fingerprint != FINGERPRINT:
            raise DigitsumError(
                f"worker {rank} of {count} has other code, another PyTorch, other numerics or, with native numerics, "
                "another processor, and would give other bits; start it from the same commit, with the packages of "
                "requirements.lock"
            )
        link.trust(same_machine=bool(children))
        missing.remove(rank)
        yield rank, link
