"""Worker 1 and above: compute shards for worker 0, see workers.py."""

import os
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from digitsum.core.errors import DigitsumError
from digitsum.core.numerics import Compute, configure_torch
from digitsum.data.splits import Split, load_split
from digitsum.data.tensors import stored_identity
from digitsum.model.network import Network
from digitsum.model.params import Model
from digitsum.training.batches import batches, epoch_steps
from digitsum.training.devices import device_name
from digitsum.training.link import CONNECTION_ERRORS, FINGERPRINT, JOIN_AGAIN, Launch, Link, launch
from digitsum.training.params import Train, TrainingParams
from digitsum.training.shards import ShardedNetwork

TENSORS = ("images", "digits", "image_index", "numbers")  # of a split


@dataclass(frozen=True)
class Job:
    """One training: groups of parameters, where it begins, and where the training split is, if it is in a file."""

    model: dict[str, Any]
    train: dict[str, Any]
    compute: dict[str, Any]
    pixel_mean: float
    pixel_std: float
    device: str
    epoch: int
    step: int
    path: str
    identity: str | None


def serve() -> None:
    """Join as the environment says, and compute shards, one training after the other, until worker 0 says to end.

    Raises DigitsumError if worker 0 ends without a word.
    """
    launched = launch()
    if launched is None or launched.rank == 0:
        raise DigitsumError("this is no worker: RANK is not 1 or above; `dvc repro` is worker 0, see docs/scale.md")
    message: Any = JOIN_AGAIN
    try:
        while message == JOIN_AGAIN:
            link = _join(launched)
            while isinstance(message := link.receive_json(), dict):
                _train(Job(**message), link, launched)
    except CONNECTION_ERRORS:
        raise DigitsumError("worker 0 has ended, so this one ends") from None


def _join(launched: Launch) -> Link:
    """Connect to worker 0, which may start later."""
    waiting_since, told = time.monotonic(), False
    while True:
        try:
            connected = socket.create_connection(launched.address)
            if connected.getsockname() != connected.getpeername():  # TCP may connect a socket to itself
                break
            connected.close()
        except OSError:
            if time.monotonic() - waiting_since > 10 and not told:
                print(f"waiting for worker 0 at {':'.join(map(str, launched.address))}", flush=True)
                told = True
        time.sleep(0.1)
    link = Link(connected)
    hello = {"rank": launched.rank, "count": launched.count, "key": launched.key, "fingerprint": FINGERPRINT}
    link.send_json(hello)
    link.trust(same_machine=launched.address[0] == "127.0.0.1")
    return link


def _train(job: Job, link: Link, launched: Launch) -> None:
    training = _receive_split(job, link)
    params = TrainingParams(Model(**job.model), Train(**job.train), Compute(**job.compute))
    configure_torch(params.compute)
    device = torch.device(job.device)
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
    network = Network(params.model, job.pixel_mean, job.pixel_std).to(device)
    sharded = ShardedNetwork(network.train(), params.train)
    training, weights = training.to(device), sharded.weights().cpu()
    link.send_json({"device": device_name(device)})  # ready
    for epoch, first_step, last_step in epoch_steps(len(training), params.train, job.epoch, job.step):
        for batch in batches(training, params.train, epoch, first_step, last_step, launched.rank, launched.count):
            sharded.set_weights(link.receive(weights).to(device))
            if batch.own:
                link.send(sharded.gradients(batch).cpu())


def _receive_split(job: Job, link: Link) -> Split:
    """Return the training split: from its file if this machine has the same, or as worker 0 sends it."""
    has_file = job.identity is not None and stored_identity(Path(job.path)) == job.identity
    link.send_json({"has_file": has_file})
    if has_file:
        return load_split(Path(job.path))
    tensors = []
    for _ in TENSORS:
        described = link.receive_json()
        tensors.append(link.receive(torch.empty(described["shape"], dtype=getattr(torch, described["dtype"]))))
    return Split(*tensors)


def end_with_stdin() -> None:
    """End this process when stdin is closed: when the process that started it has ended, however it ended."""

    def watch() -> None:
        os.read(0, 1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
