"""The one place where randomness comes from: generators seeded by declared seeds."""

import hashlib

import torch


def derived_seed(*key: int | str) -> int:
    """Return a 63-bit seed that is a function of `key`, such as ("epoch", seed, 3).

    Keys that differ in any part give unrelated seeds; seed + epoch would let neighbouring runs share draws.
    """
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "little") >> 1


def generator(*key: int | str) -> torch.Generator:
    """Return a CPU generator seeded by `key`; the CPU's draws are the same on every machine and device."""
    return torch.Generator().manual_seed(derived_seed(*key))
