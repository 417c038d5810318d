"""Trunks: from an image to digit logits, and to an embedding that a fusion may use."""

import torch
from torch import Tensor, nn

DIGITS = 10  # classes 0-9


class Trunk(nn.Module):
    """Layers that end in an embedding, and one linear layer from it to the digit.

    crop: pixels of the image's middle that the layers take, along each axis. features: width of the embedding.
    num_shifts: shifts along each axis, one pixel apart, over which a trained network averages.
    shared_layers: how many of the first layers have no stride and no padding. They give for a shifted image what they
    give for the image, shifted; so all shifts share them.
    """

    def __init__(
        self, crop: int, features: int, *layers: nn.Module, num_shifts: int = 1, shared_layers: int = 0
    ) -> None:
        """Take the layers, and make the last one with PyTorch's default initial weights."""
        super().__init__()
        self.crop, self.features, self.num_shifts, self.shared_layers = crop, features, num_shifts, shared_layers
        self.embed = nn.Sequential(*layers, nn.Flatten())
        self.classify = nn.Linear(features, DIGITS)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map normalised images, float [N, 1, S, S], to digit logits [N, 10] and embeddings [N, features].

        S is `crop`, or larger: then the embedding is the mean over all crops, see `shifted_crops`.
        """
        shared = self.embed[: self.shared_layers](images)
        crops = shifted_crops(shared, shifts=images.shape[-1] - self.crop + 1)
        rest = self.embed[self.shared_layers :]
        embedding = rest(shared) if len(crops) == 1 else torch.stack([rest(crop) for crop in crops]).mean(dim=0)
        return self.classify(embedding), embedding


def shifted_crops(channels: Tensor, shifts: int) -> list[Tensor]:
    """Return the `shifts` x `shifts` crops of float [N, C, S, S] that lie one pixel apart, each S - shifts + 1 wide."""
    side = channels.shape[-1] - shifts + 1
    places = range(shifts)
    return [channels[:, :, down : down + side, right : right + side] for down in places for right in places]


def conv_block(
    channels_in: int,
    channels_out: int,
    kernel: int,
    stride: int = 1,
    padding: int = 1,
    groups: int = 1,
    scale: bool = True,
    pool: bool = False,
) -> nn.Sequential:
    """Convolution, batch normalisation (Ioffe & Szegedy, arXiv 1502.03167), ReLU.

    With scale=False the normalisation has no weights, only biases: the next layer can scale what a ReLU lets through.
    With pool=True the maxima of 2x2 are normalised, in a third of the time that the reverse order takes. This
    normalisation has no weights either, so its scale is positive, and `folded` may move it before the maxima.
    """
    norm = nn.BatchNorm2d(channels_out)
    if pool or not scale:
        norm.register_parameter("weight", None)
    convolution = nn.Conv2d(channels_in, channels_out, kernel, stride, padding, groups=groups, bias=False)
    pooling = [nn.MaxPool2d(2)] if pool else []
    return nn.Sequential(convolution, *pooling, norm, nn.ReLU(inplace=True))


def strided() -> Trunk:
    """Four convolutions, two of them strided.

    A small network on MNIST spends most of its time in the first layers at full resolution; strides save that, as
    pooling would, but earlier. MNIST's images have an empty margin: the outer two pixels are not needed.
    """
    return Trunk(
        24,
        64 * 3 * 3,
        conv_block(1, 24, kernel=5, stride=2, padding=0),  # 24x24 -> 10x10
        conv_block(24, 48, kernel=3, stride=2),  # 10x10 -> 5x5
        conv_block(48, 64, kernel=3),
        conv_block(64, 64, kernel=3, padding=0),  # 5x5 -> 3x3
    )


def small() -> Trunk:
    """Three convolutions, for 99 % in seconds.

    Pools after the first: a second convolution with a stride takes twice the time. AVX-512 normalises 16
    channels faster than 12.
    """
    return Trunk(
        24,
        64,
        conv_block(1, 16, kernel=5, stride=2, padding=0, pool=True),  # 24x24 -> 10x10 -> 5x5
        conv_block(16, 32, kernel=3, padding=0),  # 5x5 -> 3x3
        conv_block(32, 64, kernel=3, padding=0),  # 3x3 -> 1x1
    )


class MaxAndMean(nn.Module):
    """Global pooling: the maximum and the mean of each channel, float [N, C, H, W] to [N, 2C]."""

    def forward(self, channels: Tensor) -> Tensor:
        """Return first the maxima, then the means."""
        return torch.cat([channels.amax(dim=(2, 3)), channels.mean(dim=(2, 3))], dim=1)


def five_convolutions() -> tuple[nn.Module, ...]:
    """Return the layers of `large` and `pooled`, none strided, from 24x24 pixels to 128 channels of 4x4."""
    return (
        conv_block(1, 16, kernel=3, padding=0),  # 24x24 -> 22x22
        conv_block(16, 32, kernel=3, padding=0),  # 22x22 -> 20x20
        nn.MaxPool2d(2),  # 20x20 -> 10x10
        conv_block(32, 64, kernel=3),
        conv_block(64, 64, kernel=3, padding=0),  # 10x10 -> 8x8
        nn.MaxPool2d(2),  # 8x8 -> 4x4
        conv_block(64, 128, kernel=3),
    )


def large() -> Trunk:
    """Five convolutions and a linear layer that knows positions: more accurate than `strided`, four times the work.

    Averages over four shifts, half a pixel from the middle along both axes. That makes fewer errors if images are
    deskewed, and more if they are not: see docs/experiments.md.
    """
    return Trunk(24, 128 * 4 * 4, *five_convolutions(), num_shifts=2, shared_layers=2)


def pooled() -> Trunk:
    """The same convolutions, then global pooling, which forgets positions: the most accurate, trained long.

    For images that are not deskewed, with strong warps. Averages over nine shifts of whole pixels, without
    interpolation.
    """
    return Trunk(24, 2 * 128, *five_convolutions(), MaxAndMean(), num_shifts=3, shared_layers=2)


def separable(channels_in: int, channels_out: int, padding: int = 0, scale: bool = True) -> tuple[nn.Module, nn.Module]:
    """Return layers that convolve each channel by itself, then mix them: few weights (MobileNet, arXiv 1704.04861)."""
    depthwise = nn.Conv2d(channels_in, channels_in, kernel_size=3, padding=padding, groups=channels_in, bias=False)
    return depthwise, conv_block(channels_in, channels_out, kernel=1, padding=0, scale=scale)


def tiny() -> Trunk:
    """Five narrow convolutions, all but the first separable: over 99.5 % with 4,610 weights.

    Averages over four shifts, as `large` does.
    """
    return Trunk(
        24,
        32 * 2 * 2,
        conv_block(1, 8, kernel=3, padding=0),  # 24x24 -> 22x22
        *separable(8, 16),  # 22x22 -> 20x20
        nn.MaxPool2d(2),  # 20x20 -> 10x10
        *separable(16, 24, padding=1),
        *separable(24, 32),  # 10x10 -> 8x8
        nn.MaxPool2d(2),  # 8x8 -> 4x4
        *separable(32, 32),  # 4x4 -> 2x2
        num_shifts=2,
        shared_layers=3,
    )


def minimal() -> Trunk:
    """Two separable convolutions between a plain and a depthwise one: over 99 % with 976 weights."""
    return Trunk(
        24,
        18,
        conv_block(1, 7, kernel=3, padding=0, scale=False),  # 24x24 -> 22x22
        nn.MaxPool2d(2),  # 22x22 -> 11x11
        *separable(7, 13, scale=False),  # 11x11 -> 9x9
        *separable(13, 18, scale=False),  # 9x9 -> 7x7
        nn.MaxPool2d(2),  # 7x7 -> 3x3
        conv_block(18, 18, kernel=3, padding=0, groups=18, scale=False),  # 3x3 -> 1x1
        num_shifts=2,
        shared_layers=1,
    )


def lenet() -> Trunk:
    """LeNet as the papers on MNIST-Add use it, 44,426 weights: DeepProbLog's network (arXiv 1805.10872)."""
    return Trunk(
        28,
        84,
        *(nn.Conv2d(1, 6, kernel_size=5), nn.MaxPool2d(2), nn.ReLU()),  # 28x28 -> 24x24 -> 12x12
        *(nn.Conv2d(6, 16, kernel_size=5), nn.MaxPool2d(2), nn.ReLU()),  # 12x12 -> 8x8 -> 4x4
        *(nn.Flatten(), nn.Linear(16 * 4 * 4, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU()),
    )


def baseline_concat() -> Trunk:
    """The layers of the baseline `concat`."""
    return Trunk(
        28,
        12 * 4 * 4,
        *(nn.Conv2d(1, 6, kernel_size=5), nn.ReLU(), nn.MaxPool2d(2)),  # 28x28 -> 24x24 -> 12x12
        *(nn.Conv2d(6, 12, kernel_size=5), nn.ReLU(), nn.MaxPool2d(2)),  # 12x12 -> 8x8 -> 4x4
    )


def baseline_add() -> Trunk:
    """The layers of the baseline `add`, up to the one that gives the digit."""
    return Trunk(
        28,
        64,
        *(nn.Conv2d(1, 16, kernel_size=3), nn.ReLU()),  # 28x28 -> 26x26
        *(nn.Conv2d(16, 32, kernel_size=3), nn.ReLU()),  # 26x26 -> 24x24
        *(nn.Conv2d(32, 64, kernel_size=3), nn.ReLU(), nn.MaxPool2d(2)),  # 24x24 -> 22x22 -> 11x11
        *(nn.Conv2d(64, 128, kernel_size=3), nn.ReLU()),  # 11x11 -> 9x9
        *(nn.Flatten(), nn.Linear(128 * 9 * 9, 64), nn.ReLU()),
    )


TRUNKS = {
    "strided": strided,
    "small": small,
    "large": large,
    "pooled": pooled,
    "tiny": tiny,
    "minimal": minimal,
    "lenet": lenet,
    "baseline_concat": baseline_concat,
    "baseline_add": baseline_add,
}
