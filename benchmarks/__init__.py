"""The benchmarks, each run as `python -m benchmarks.NAME`: everyone at the CPU's fastest."""

from digitsum.core import numerics

numerics.prepare("native")  # before any of them imports PyTorch
