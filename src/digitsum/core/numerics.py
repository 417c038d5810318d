"""Numerics: have PyTorch compute the same bits whatever the CPU, the environment and the other programs are.

Floats are added in some order, and another order gives other last bits. The order follows from the widest vectors of
the CPU and from the number of threads, unless both are set. PyTorch and its libraries read most of this from the
environment, once, when they are imported: call `set_environment` before that, `configure_torch` after it.
"""

import os
import platform
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from digitsum.core.errors import DigitsumError
from digitsum.core.params import choice

T = TypeVar("T")
U = TypeVar("U")

FIXED = {
    # One thread for each of PyTorch's operations. More cores compute other shards of a batch, or other images.
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # What torch.compile cached in a native run has given NaN in a portable one: compile again.
    "TORCHINDUCTOR_FX_GRAPH_CACHE": "0",
    # Do not choose kernels by timing them.
    "TORCHINDUCTOR_DETERMINISTIC": "1",
    # Workspace for cuBLAS to compute in one order, on GPUs.
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}
PORTABLE = {
    # Each of these libraries would take the widest vectors that the CPU has. All recent x86-64 CPUs have AVX2: vectors
    # of 8 floats, and a multiplication with an addition in one rounding.
    "ATEN_CPU_CAPABILITY": "avx2",  # PyTorch's own loops
    "ONEDNN_MAX_CPU_ISA": "AVX2",  # convolutions
    # Matrix products. MKL's AVX2 mode is for Intel CPUs only; the mode that is equal on all CPUs is slower, SSE2.
    "MKL_CBWR": "COMPATIBLE",
}
MOST_THREADS = 8  # a container may show cores that it may not use, and each thread needs memory


@dataclass(frozen=True)
class Compute:
    """How the CPU computes: this decides on the bits of a result."""

    numerics: str = choice("portable", "native")


def requested_numerics(values: dict[str, Any]) -> str:
    """Return compute.numerics of the `values` in params.yaml, unchecked; portable if there is none."""
    compute = values.get("compute")
    return str(compute.get("numerics")) if isinstance(compute, dict) else "portable"


def set_environment(numerics: str) -> None:
    """Set the environment for portable or native numerics. Has no effect after PyTorch is imported."""
    os.environ.update(FIXED)
    if numerics != "native":
        os.environ.update(PORTABLE)
    else:  # a parent process may have been portable
        for name, value in PORTABLE.items():
            if os.environ.get(name) == value:
                del os.environ[name]


def configure_torch(compute: Compute) -> None:
    """Set one thread for each operation, and deterministic algorithms on GPUs where it has them.

    Raises DigitsumError if the numerics are not those of the environment in which PyTorch was imported, or if they are
    portable and this CPU lacks AVX2.
    """
    import torch

    if compute.numerics == "portable" and platform.machine().lower() in ("x86_64", "amd64"):
        if not torch.cpu.get_capabilities()["avx2"]:
            raise DigitsumError("params.yaml: compute.numerics is portable, but this CPU lacks AVX2; set it to native")
        if torch.backends.cpu.get_cpu_capability() != "AVX2":
            raise DigitsumError(
                "compute.numerics is portable, but PyTorch was imported too early: first call "
                "digitsum.core.numerics.set_environment"
            )
    if compute.numerics == "native" and os.environ.items() >= PORTABLE.items():
        raise DigitsumError(
            "compute.numerics is native, but the environment is portable: set native in params.yaml before the start"
        )
    torch.set_num_threads(1)
    # With what `set_environment` sets the same as use_deterministic_algorithms(True, warn_only=True), which would
    # import torch._dynamo: 0.9 s, which only training needs.
    torch.set_deterministic_debug_mode("warn")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # nothing reads it


def processor() -> str:
    """Return the processor's name, where Linux tells it, or its architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_threads(function: Callable[[T], U], parts: Iterable[T], device: str) -> list[U]:
    """Return `function` of each part, in order; on the CPU in one Python thread per core, at most MOST_THREADS.

    PyTorch uses one thread in each, so the result does not depend on the number of cores. `function` must set
    torch.no_grad itself: each thread has its own.
    """
    if device != "cpu":
        return [function(part) for part in parts]
    with ThreadPoolExecutor(min(cores(), MOST_THREADS)) as pool:
        return list(pool.map(function, parts))
