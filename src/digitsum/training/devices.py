"""What trains, and how: CUDA, then Apple's MPS, then the CPU, unless told; with which numbers; compiled or not."""

from collections.abc import Callable
from typing import Any

import torch

from digitsum.errors import DigitsumError


def choose_device(wanted: str) -> torch.device:
    """Give the device for `wanted`: auto, cpu, cuda or mps. Raises DigitsumError if it is not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return torch.device(next(name for name, is_there in there.items() if is_there))
    if not there[wanted]:
        raise DigitsumError(
            f"params.yaml: train.device is {wanted}, but this machine has none that PyTorch {torch.__version__} can "
            "use; set auto or cpu"
        )
    return torch.device(wanted)


def set_precision(precision: str) -> torch.dtype:
    """Prepare PyTorch to compute in `precision`; give the type of floats that the trunk takes for it.

    float32: as it says, on GPUs too, where PyTorch by itself would round the factors of convolutions. tf32: these and
    matrix products on NVIDIA's tensor cores, with 10 bits of mantissa. bfloat16: 7 bits, half the memory traffic.
    """
    torch.backends.fp32_precision = "tf32" if precision == "tf32" else "ieee"  # type: ignore[attr-defined]
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function`, one shape of arguments after another, when it is called.

    Needs a C++ compiler on the CPU, Triton on a GPU. Raises DigitsumError when called and they are not there.
    """
    fast = torch.compile(function, dynamic=False)

    def call(*arguments: Any) -> Any:
        try:
            return fast(*arguments)
        except torch._dynamo.exc.BackendCompilerFailed as error:
            reason = str(error.inner_exception).strip().partition("\n")[0]
            raise DigitsumError(
                f"params.yaml: train.compile is true, but nothing can be compiled here ({reason}); set it to false"
            ) from None

    return call
