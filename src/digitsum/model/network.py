"""The network: preprocessing, a trunk for the image, and a fusion that adds the number."""

import dataclasses
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor, nn

from digitsum.core.errors import DigitsumError
from digitsum.core.params import check_choice, to_group
from digitsum.data.splits import Split
from digitsum.data.tensors import load_tensors, save_tensors
from digitsum.model.evidence import Limits
from digitsum.model.fusions import FUSIONS
from digitsum.model.params import Model
from digitsum.model.preprocess import compose, deskew_maps, identity_maps, resample
from digitsum.model.trunks import TRUNKS


class Network(nn.Module):
    """Image and number in, digit logits and sum logits out.

    `pixel_mean` and `pixel_std` are those of the training split, of pixels scaled to 0-1. The logits are divided by the
    temperatures, which make probabilities of them that are as often right as they say. All are buffers, saved with the
    weights, so nobody who uses the model can normalise wrongly. `limits` are those of the evidence of a digit, or None
    if there was no validation split to take them from.
    """

    pixel_mean: Tensor
    pixel_std: Tensor
    digit_temperature: Tensor
    sum_temperature: Tensor

    def __init__(self, model: Model, pixel_mean: float = 0.0, pixel_std: float = 1.0) -> None:
        """Make a network with initial weights from torch's global generator.

        Raises DigitsumError if there is no such fusion or trunk.
        """
        super().__init__()
        check_choice("model.fusion", model.fusion, FUSIONS)
        check_choice("model.trunk", model.trunk, TRUNKS)
        self.model = model
        self.limits: Limits | None = None
        self.trunk = TRUNKS[model.trunk]()
        self.fusion = FUSIONS[model.fusion](self.trunk.features)
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean, dtype=torch.float32))
        self.register_buffer("pixel_std", torch.tensor(pixel_std, dtype=torch.float32))
        self.register_buffer("digit_temperature", torch.ones(()))
        self.register_buffer("sum_temperature", torch.ones(()))
        # Convolutions on the CPU take two thirds to three quarters of the time in this layout.
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Map uint8 images [N, 28, 28] and int64 numbers [N] in 0-9 to logits: digits [N, 10], sums [N, 19].

        Raises ValueError if shapes, types or numbers are others.
        """
        inputs: dict[str, object] = {"images": images, "numbers": numbers}
        for name, given in inputs.items():
            if not isinstance(given, Tensor):
                kind = type(given).__name__
                raise ValueError(f"{name} are of type {kind}, expected a torch tensor: torch.tensor({name}) makes one")
        if images.dtype != torch.uint8 or images.ndim != 3 or images.shape[1:] != (28, 28):
            raise ValueError(f"images are {images.dtype} {list(images.shape)}, expected uint8 [N, 28, 28] as in MNIST")
        if numbers.dtype != torch.int64 or numbers.shape != images.shape[:1]:
            raise ValueError(
                f"numbers are {numbers.dtype} {list(numbers.shape)}, expected int64 [{len(images)}]: one an image"
            )
        if len(numbers) and not (int(numbers.min()) >= 0 and int(numbers.max()) <= 9):
            raise ValueError(f"numbers range from {int(numbers.min())} to {int(numbers.max())}, expected 0-9")
        return self.calibrated(*self.forward_pixels(images.float(), numbers))

    def calibrated(self, digit_logits: Tensor, sum_logits: Tensor) -> tuple[Tensor, Tensor]:
        """Divide logits by their temperatures."""
        return digit_logits / self.digit_temperature, sum_logits / self.sum_temperature

    def forward_pixels(
        self, pixels: Tensor, numbers: Tensor, warps: Tensor | None = None, precision: torch.dtype = torch.float32
    ) -> tuple[Tensor, Tensor]:
        """Map float images with pixels 0-255 to logits as training sees them, not calibrated; see `encode`."""
        digit_logits, embedding = self.encode(pixels, warps, precision)
        logits: tuple[Tensor, Tensor] = self.fusion(digit_logits, embedding, numbers)
        return logits

    def encode(
        self, pixels: Tensor, warps: Tensor | None = None, precision: torch.dtype = torch.float32
    ) -> tuple[Tensor, Tensor]:
        """Return digit logits [N, 10] and embeddings [N, E] of float images [N, 28, 28] with pixels 0-255.

        In eval mode the trunk gets a larger crop, and averages over the shifted crops in it (test-time shifts).

        Args:
            pixels: the images.
            warps: affine maps [N, 2, 3], applied to the deskewed image; both together resample once.
            precision: of the trunk's products, float32 or bfloat16; the rest is float32.
        """
        maps = deskew_maps(pixels) if self.model.deskew else identity_maps(pixels)
        if warps is not None:
            maps = compose(maps, warps)
        num_shifts = 1 if self.training else self.trunk.num_shifts
        crop = resample(pixels, maps, self.trunk.crop + num_shifts - 1)
        normalised = (crop / 255 - self.pixel_mean) / self.pixel_std
        with torch.autocast(pixels.device.type, precision, enabled=precision != torch.float32):
            digit_logits, embedding = self.trunk(normalised.unsqueeze(1))
        return digit_logits.float(), embedding.float()


def new_network(model: Model, training: Split) -> Network:
    """Return a network that normalises with the mean and deviation of `training`."""
    return Network(model, *normalisation(training.images))


def normalisation(images: Tensor) -> tuple[float, float]:
    """Return the mean and the standard deviation of the pixels of uint8 `images`, scaled to 0-1.

    In float64 sums of whole numbers are exact, so the result has the same bits in whatever order they are added. In
    parts, because float64 takes 8 bytes a pixel.
    """
    total = squares = 0.0
    for part in images.split(100):
        pixels = part.flatten().double()
        total, squares = total + pixels.sum().item(), squares + (pixels @ pixels).item()
    mean = total / images.numel()
    variance = squares / images.numel() - mean**2
    return mean / 255, variance**0.5 / 255


def save_model(path: Path, network: Network, **trained: str | int) -> None:
    """Write weights, buffers, the config to build the network from, and how it was `trained`, for its readers.

    Equal weights, limits and `trained` give equal bytes.
    """
    limits = {"limits": dataclasses.asdict(network.limits)} if network.limits else {}
    save_tensors(path, network.state_dict(), {**dataclasses.asdict(network.model), **limits, "trained": trained})


def load_model(path: str | PathLike[str]) -> Network:
    """Return the network saved at `path`, on the CPU, in eval mode.

    Raises DigitsumError if the file is missing, damaged, holds other tensors than such a network has, or weights that
    no training gives.
    """
    tensors, config = load_tensors(Path(path))
    config.pop("trained", None)
    limits = {"limits": config.pop("limits")} if "limits" in config else {}
    try:
        with torch.random.fork_rng(devices=[]):  # the caller's generator stays as it is
            network = Network(to_group(Model, {"model": config}))
        network.limits = to_group(Limits, limits) if limits else None
    except DigitsumError:
        raise DigitsumError(f"{path} is not a model of this version of digitsum; run `dvc repro train`") from None
    expected = network.state_dict()
    for name in sorted(expected.keys() | tensors.keys()):
        found, wanted = (_described(group.get(name)) for group in (tensors, expected))
        if found != wanted:
            raise DigitsumError(
                f"{path} does not fit this version of the network: {name} is {found}, expected {wanted}; "
                "run `dvc repro train`"
            )
    network.load_state_dict(tensors)
    if not _is_sound(network.eval()):
        raise DigitsumError(
            f"{path} holds weights that are not finite, variances below 0, or weights whose answers are not finite; "
            "run `dvc repro train`"
        )
    return network


def _described(tensor: Tensor | None) -> str:
    return "missing" if tensor is None else f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


@torch.no_grad()
def _is_sound(network: Network) -> bool:
    """Return whether all weights are finite, no variance is negative, and a fixed input has finite answers."""
    state = network.state_dict()
    variances = [tensor for name, tensor in state.items() if name.endswith(("pixel_std", "running_var"))]
    if not all(bool(tensor.isfinite().all()) for tensor in state.values()) or any(
        bool((v < 0).any()) for v in variances
    ):
        return False
    images = torch.stack([torch.full((28, 28), 28 * row, dtype=torch.uint8) for row in range(10)])
    images[:, 14:] = 255  # edges, so that every layer has something to see
    # Not the logits: `shift` gives impossible sums -inf.
    return all(bool(logits.softmax(1).isfinite().all()) for logits in network(images, torch.arange(10)))
