"""Numerics: have PyTorch compute the same bits whatever the CPU, the environment and the other programs are.

Floats are added in an order, and with another order the last bits differ. The order follows from the widest vectors
of the CPU and from the number of threads, unless it is told. PyTorch and its libraries read most of this from the
environment, once, when they are imported: `prepare` comes before that, `compute_with` after.
"""

import contextlib
import os
import platform
from pathlib import Path

from digitsum.errors import DigitsumError
from digitsum.params import read_yaml

FIXED = {
    # The number of threads is a parameter. With fewer than it was told oneDNN waits for the missing ones for ever, and
    # each of these three could take some away.
    "OMP_DYNAMIC": "false",
    "OMP_THREAD_LIMIT": "65535",
    "OMP_MAX_ACTIVE_LEVELS": "1",
    # What torch.compile kept from a native run has given NaN in a portable one: compile anew.
    "TORCHINDUCTOR_FX_GRAPH_CACHE": "0",
    # Nor shall it choose by the clock how to compute.
    "TORCHINDUCTOR_DETERMINISTIC": "1",
    # Room for cuBLAS to compute in one order, on GPUs.
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}
PORTABLE = {
    # Each of these libraries would take the widest vectors that the CPU has. All x86-64 CPUs of the last years have
    # AVX2: vectors of 8 floats, and a multiplication with an addition in one rounding.
    "ATEN_CPU_CAPABILITY": "avx2",  # PyTorch's own loops
    "ONEDNN_MAX_CPU_ISA": "AVX2",  # convolutions
    # Products of matrices. MKL's AVX2 is for Intel's CPUs only; what it computes alike on all is slower, SSE2.
    "MKL_CBWR": "COMPATIBLE",
}


def wanted() -> str:
    """Give train.numerics as ./params.yaml has it; portable, if that cannot be read: load_params will say so."""
    with contextlib.suppress(DigitsumError):
        train = read_yaml(Path("params.yaml")).get("train")
        if isinstance(train, dict):
            return str(train.get("numerics"))
    return "portable"


def prepare(numerics: str) -> None:
    """Set the environment for portable or native numerics; counts only before PyTorch is imported."""
    # Waiting threads sleep instead of spinning: same bits, and several times faster when other programs run.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.update(FIXED)
    if numerics != "native":
        os.environ.update(PORTABLE)


def compute_with(numerics: str, threads: int) -> None:
    """Have PyTorch compute with so many CPU threads, and on GPUs by deterministic algorithms where it has them.

    Raises DigitsumError if `numerics` is portable and this CPU cannot be, or PyTorch was imported too early.
    """
    import torch

    if numerics == "portable" and platform.machine().lower() in ("x86_64", "amd64"):
        if not torch.cpu.get_capabilities()["avx2"]:
            raise DigitsumError("params.yaml: train.numerics is portable, but this CPU lacks AVX2; set it to native")
        if torch.backends.cpu.get_cpu_capability() != "AVX2":
            raise DigitsumError(
                "train.numerics is portable, but PyTorch was imported too early: first call digitsum.numerics.prepare"
            )
    torch.set_num_threads(threads)
    # With what `prepare` sets the same as use_deterministic_algorithms(True, warn_only=True), which would import the
    # compiler of PyTorch: seconds, that only training takes.
    torch.set_deterministic_debug_mode("warn")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # nothing reads it
