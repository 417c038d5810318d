"""A connection between two workers, over which tensors and small JSON values go, and who may make one."""

import hashlib
import json
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from digitsum.core.errors import DigitsumError
from digitsum.core.numerics import FIXED, PORTABLE, processor

GREETING_TIMEOUT = 10  # seconds for what has connected to say who it is
LONGEST_JSON = 64 * 1024  # bytes
CONNECTION_ERRORS = (OSError, EOFError)  # what a link raises when the other side has ended
END, JOIN_AGAIN = "end", "join again"  # what a worker is told in place of a job
KEEP_ALIVE = {
    # Seconds of silence before the system asks whether the other machine is there, seconds between, times.
    "TCP_KEEPIDLE": 30,
    "TCP_KEEPALIVE": 30,  # the same on macOS
    "TCP_KEEPINTVL": 10,
    "TCP_KEEPCNT": 3,
    # Milliseconds that a message may wait for its receipt; meanwhile the system does not ask.
    "TCP_USER_TIMEOUT": 60_000,
}


class Link:
    """A connection to another worker. Until `trust` is called it has little time."""

    def __init__(self, connected: socket.socket) -> None:
        """Take a connected socket."""
        self._socket = connected
        self._deadline: float | None = time.monotonic() + GREETING_TIMEOUT
        connected.settimeout(GREETING_TIMEOUT)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def trust(self, same_machine: bool) -> None:
        """Wait for messages without a limit; notice within a minute that another machine has vanished."""
        self._deadline = None
        self._socket.settimeout(None)
        if not same_machine:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in KEEP_ALIVE.items():
                if hasattr(socket, name):
                    self._socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def send(self, tensor: Tensor) -> None:
        """Send a tensor on the CPU. Raises one of CONNECTION_ERRORS."""
        self._socket.sendall(_memory(tensor.detach().contiguous()))

    def receive(self, tensor: Tensor) -> Tensor:
        """Fill a tensor on the CPU; return it. Raises one of CONNECTION_ERRORS."""
        memory = _memory(tensor)
        while memory:
            if self._deadline:
                self._socket.settimeout(max(self._deadline - time.monotonic(), 0.001))
            received = self._socket.recv_into(memory)
            if not received:
                raise EOFError
            memory = memory[received:]
        return tensor

    def send_json(self, value: Any) -> None:
        """Send what fits into JSON and into LONGEST_JSON."""
        content = torch.tensor([*json.dumps(value).encode()], dtype=torch.uint8)
        self.send(torch.tensor([len(content)]))
        self.send(content)

    def receive_json(self) -> Any:
        """Return what send_json has sent. Raises ValueError if it is something else."""
        length = int(self.receive(torch.zeros(1, dtype=torch.int64)))
        if not 0 < length <= LONGEST_JSON:
            raise ValueError(f"{length} bytes")
        return json.loads(bytes(self.receive(torch.zeros(length, dtype=torch.uint8)).tolist()))

    def close(self) -> None:
        """Close the connection, which the other side notices."""
        self._socket.close()


def _memory(tensor: Tensor) -> memoryview:
    return tensor.reshape(-1).view(torch.uint8).numpy().data


# --- Who may connect -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Launch:
    """What a launcher such as Slurm or torchrun says in the environment: this worker is `rank` of `count`."""

    rank: int
    count: int
    address: tuple[str, int]
    key: str


def launch() -> Launch | None:
    """Return what the environment says of this worker; None if there is no launcher.

    Workers meet at MASTER_ADDR, one port above MASTER_PORT, which torchrun keeps for itself. MASTER_KEY is a secret of
    the workers. Raises DigitsumError if a variable is missing or wrong.
    """
    if "WORLD_SIZE" not in os.environ:
        return None
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT", "MASTER_KEY") if not os.environ.get(name)]
    try:
        count = int(os.environ["WORLD_SIZE"])
        if count == 1:
            return Launch(0, 1, ("", 0), "")
        if missing:
            raise DigitsumError(f"WORLD_SIZE is {count}, but {' and '.join(missing)} not set; see docs/scale.md")
        found = Launch(
            int(os.environ["RANK"]),
            count,
            (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]) + 1),
            os.environ["MASTER_KEY"],
        )
    except ValueError as error:
        raise DigitsumError(f"WORLD_SIZE, RANK or MASTER_PORT is not a whole number: {error}") from None
    if not 0 <= found.rank < count:
        raise DigitsumError(f"RANK is {found.rank}, expected 0 to {count - 1}, as WORLD_SIZE is {count}")
    return found


def fingerprint() -> str:
    """Return a SHA-256 of what decides on the bits that a worker computes, besides what it is sent.

    The code, PyTorch's version, what set_environment sets and, with native numerics, the processor.
    """
    settings = {name: os.environ.get(name) for name in sorted(FIXED | PORTABLE)}
    cpu = "any" if settings.items() >= PORTABLE.items() else processor()
    digest = hashlib.sha256(repr((torch.__version__, settings, cpu)).encode())
    package = Path(__file__).parents[1]
    for folder in ("core", "data", "model", "training"):
        for file in sorted((package / folder).glob("*.py")):
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


FINGERPRINT = fingerprint()  # of the code as it was imported
