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


def seed_layers(device: torch.device, *key: int | str) -> None:
    """Seed by `key` the generators from which layers on `device` draw, such as dropout.

    Not with `torch.manual_seed`: for each kind of GPU that is not in use it keeps the call stack as text, which takes
    7 % of a short training on the CPU.
    """
    seed = derived_seed(*key)
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)
