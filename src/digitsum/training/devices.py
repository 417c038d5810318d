"""Which device trains: CUDA, then Apple's MPS, then the CPU, unless told."""

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
