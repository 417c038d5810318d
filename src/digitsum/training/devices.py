"""Device, precision and compilation: CUDA, then Apple's MPS, then the CPU, unless a parameter names one."""

from collections.abc import Callable
from typing import Any

import torch

from digitsum.core.errors import DigitsumError


def choose_device(requested: str) -> torch.device:
    """Return the device for `requested`: auto, cpu, cuda or mps. Raises DigitsumError if it is not available."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if requested == "auto":
        return torch.device(next(name for name, is_available in available.items() if is_available))
    if not available[requested]:
        raise DigitsumError(
            f"params.yaml: train.device is {requested}, but this machine has none that PyTorch {torch.__version__} can "
            "use; set auto or cpu"
        )
    return torch.device(requested)


def device_name(device: torch.device) -> str:
    """Return the GPU's name, or cpu or mps."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def set_precision(precision: str) -> torch.dtype:
    """Set the precision of PyTorch's products; return the dtype that the trunk computes in.

    float32: exact, on GPUs too, where PyTorch by default rounds the factors of convolutions. tf32: convolutions and
    matrix products on NVIDIA's tensor cores, with 10 bits of mantissa. bfloat16: 7 bits, half the memory traffic.
    """
    of_products = "tf32" if precision == "tf32" else "ieee"
    # The first alone leaves convolutions as they are (PyTorch 2.11), and matrix products after torch.compile (2.14).
    backends: Any = torch.backends
    for products in (backends, backends.cudnn.conv, backends.cuda.matmul):
        products.fp32_precision = of_products
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function` compiled; each new shape of arguments is compiled when it first occurs.

    Needs a C++ compiler on the CPU, Triton on a GPU. The result raises DigitsumError if they are missing.
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
