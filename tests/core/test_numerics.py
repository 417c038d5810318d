"""Bits: the same whatever the machine, the environment and the other programs are."""

import contextlib
import os
import platform
import shutil
import subprocess
import sys

import pytest
import torch
from harness.project import ROOT

from digitsum.core import numerics
from digitsum.core.errors import DigitsumError

# What harness/few_steps.py prints on every x86-64 CPU with AVX2. When training computes something else on purpose, or
# PyTorch is another: run it, and `make test-portable`.
GOLDEN = "8657758e57a6ff1d45ad816aec69a3ee37314be10f6d0e1c74bec8eb500d728d"

golden = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the bits are those of x86-64")

ENVIRONMENTS = [
    "",
    "OMP_NUM_THREADS=1",
    "OMP_NUM_THREADS=5",
    "OMP_DYNAMIC=true",
    "OMP_THREAD_LIMIT=1",
    "OMP_MAX_ACTIVE_LEVELS=0",
    "OMP_WAIT_POLICY=ACTIVE",
    "WORLD_SIZE=1",
    "MKL_NUM_THREADS=1 MKL_DYNAMIC=TRUE",
    "MKL_CBWR=AUTO MKL_ENABLE_INSTRUCTIONS=SSE4_2",
    "ATEN_CPU_CAPABILITY=default",
    "ONEDNN_MAX_CPU_ISA=SSE41 DNNL_MAX_CPU_ISA=SSE41",
    "PYTHONHASHSEED=1",
    "LC_ALL=tr_TR.UTF-8 TZ=Pacific/Chatham",
]


def few_steps(*before, folder=ROOT, environment="", timeout=300):
    """Run harness/few_steps.py in a new process; return what it prints."""
    pinned = numerics.PORTABLE.keys() | numerics.FIXED.keys()  # which the tests themselves run with
    inherited = {name: value for name, value in os.environ.items() if name not in pinned}
    given = dict(setting.split("=") for setting in environment.split())
    command = [*before, sys.executable, ROOT / "tests/harness/few_steps.py"]
    return subprocess.check_output(command, cwd=folder, env=inherited | given, text=True, timeout=timeout).strip()


@golden
@pytest.mark.slow
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_bits_do_not_depend_on_the_environment(environment):
    assert few_steps(environment=environment) == GOLDEN


@golden
@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs Linux, to take cores away")
@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_bits_do_not_depend_on_the_number_of_cores(count):
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < count:
        pytest.skip(f"this machine has {len(cores)} cores")
    assert few_steps("taskset", "--cpu-list", ",".join(map(str, cores[:count]))) == GOLDEN


@golden
@pytest.mark.slow
def test_the_bits_do_not_depend_on_the_folder_or_on_other_programs(tmp_path):
    with contextlib.ExitStack() as stack:
        for _ in range(2 * (os.cpu_count() or 1)):
            busy = stack.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            stack.callback(busy.kill)
        assert few_steps(folder=tmp_path) == GOLDEN


@golden
@pytest.mark.portable
@pytest.mark.timeout(3600)
def test_the_bits_are_the_same_on_an_emulated_cpu_without_avx512():
    valgrind = shutil.which("valgrind")
    assert valgrind, "Valgrind emulates a Haswell of 2013, but is not here: apt-get install valgrind"
    # All in the one process that is emulated.
    assert few_steps(valgrind, "--tool=none", "--quiet", environment="WORLD_SIZE=1", timeout=3000) == GOLDEN


def test_deterministic_algorithms_are_asked_for_and_the_compiler_is_not_imported_for_it():
    code = """
import sys
from digitsum.core import numerics
numerics.set_environment("portable")
numerics.configure_torch(numerics.Compute("portable"))
import torch
print("torch._dynamo" in sys.modules, torch.get_deterministic_debug_mode())
import torch._inductor.config
print(torch._inductor.config.deterministic)
"""
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == ["False", "1", "True"]


def test_only_what_says_native_is_native():
    assert numerics.requested_numerics({"compute": {"numerics": "native"}}) == "native"
    for values in ({"compute": {"numerics": "portable"}}, {"compute": 3}, {}):
        assert numerics.requested_numerics(values) == "portable"


def test_native_leaves_the_choice_of_vectors_to_the_libraries_also_under_a_portable_parent(monkeypatch):
    for name, value in numerics.PORTABLE.items():
        monkeypatch.setenv(name, value)
    numerics.set_environment("native")
    assert not numerics.PORTABLE.keys() & os.environ.keys()
    assert numerics.FIXED.items() <= os.environ.items()


@pytest.mark.parametrize(
    ("capabilities", "active", "message"),
    [
        ({"avx2": False}, "DEFAULT", "this CPU lacks AVX2; set it to native"),
        ({"avx2": True}, "AVX512", "PyTorch was imported too early"),
    ],
)
def test_what_cannot_be_portable_says_so(monkeypatch, capabilities, active, message):
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: active)
    with pytest.raises(DigitsumError, match=message):
        numerics.configure_torch(numerics.Compute("portable"))
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    numerics.configure_torch(numerics.Compute("portable"))


def test_native_numerics_in_a_portable_environment_are_refused():
    with pytest.raises(DigitsumError, match=r"numerics is native, .*: set native in params\.yaml before the start$"):
        numerics.configure_torch(numerics.Compute("native"))
