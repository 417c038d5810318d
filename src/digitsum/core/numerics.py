"""Numerics: have PyTorch compute the same bits whatever the CPU, the environment and the other programs are.

Floats are added in some order, and another order gives other last bits. The order follows from the widest vectors of
the CPU and from the number of threads, unless it is set. PyTorch and its libraries read most of this from the
environment, once, when they are imported: call `set_environment` before that, `configure_torch` after it.
"""

import os
import platform
from dataclasses import dataclass
from typing import Any

from digitsum.core.errors import DigitsumError
from digitsum.core.params import choice, whole

FIXED = {
    # The number of threads is a parameter. With fewer than that oneDNN waits for the missing ones without end, and each
    # of these three could take some away.
    "OMP_DYNAMIC": "false",
    "OMP_THREAD_LIMIT": "65535",
    "OMP_MAX_ACTIVE_LEVELS": "1",
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


@dataclass(frozen=True)
class Compute:
    """How the CPU computes: both decide on the bits of a result."""

    numerics: str = choice("portable", "native")
    threads: int = whole(at_least=1, at_most=1024)  # each takes memory, and no CPU has more


def requested_numerics(values: dict[str, Any]) -> str:
    """Return compute.numerics of the `values` in params.yaml, unchecked; portable if there is none."""
    compute = values.get("compute")
    return str(compute.get("numerics")) if isinstance(compute, dict) else "portable"


def set_environment(numerics: str) -> None:
    """Set the environment for portable or native numerics. Has no effect after PyTorch is imported."""
    # Waiting threads sleep instead of spinning: same bits, and several times faster when other programs run.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.update(FIXED)
    if numerics != "native":
        os.environ.update(PORTABLE)
    else:  # a parent process may have been portable
        for name, value in PORTABLE.items():
            if os.environ.get(name) == value:
                del os.environ[name]


def configure_torch(compute: Compute) -> None:
    """Set PyTorch's CPU threads, and deterministic algorithms on GPUs where it has them.

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
    torch.set_num_threads(compute.threads)
    # With what `set_environment` sets the same as use_deterministic_algorithms(True, warn_only=True), which would
    # import torch._dynamo: 0.9 s, which only training needs.
    torch.set_deterministic_debug_mode("warn")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # nothing reads it
