"""Trunks: from an image to digit logits and to an embedding that a fusion may use."""

import torch
from torch import Tensor, nn

DIGITS = 10  # classes 0-9


class Trunk(nn.Module):
    """Layers that end in an embedding, and one linear layer from it to the digit.

    `side`: how many pixels of the image's middle the layers take, along each axis. `features`: how many numbers they
    give for an image. `looks`: from how many places along each axis, a pixel apart, a trained network looks.
    `equivariant`: how many of the first layers, with neither stride nor padding, give for an image a pixel beside what
    they give for the image itself, a pixel beside. What they give serves all looks.
    """

    def __init__(self, side: int, features: int, *layers: nn.Module, looks: int = 1, equivariant: int = 0) -> None:
        """Take the layers, and make the last one with PyTorch's default initial weights."""
        super().__init__()
        self.side, self.features, self.looks, self.equivariant = side, features, looks, equivariant
        self.embed = nn.Sequential(*layers, nn.Flatten())
        self.classify = nn.Linear(features, DIGITS)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map normalised images, float [N, 1, side, side], to digit logits [N, 10] and embeddings [N, features].

        Of larger images it looks at every part of side x side pixels, and gives the means.
        """
        embedding = self.embed(images) if images.shape[-1] == self.side else self._mean_embedding(images)
        return self.classify(embedding), embedding

    def _mean_embedding(self, images: Tensor) -> Tensor:
        places = range(images.shape[-1] - self.side + 1)
        seen = self.embed[: self.equivariant](images)
        side = seen.shape[-1] - places[-1]
        looks = [seen[:, :, down : down + side, right : right + side] for down in places for right in places]
        return torch.stack([self.embed[self.equivariant :](look) for look in looks]).mean(dim=0)


def conv_block(channels_in: int, channels_out: int, kernel: int, stride: int = 1, padding: int = 1) -> nn.Sequential:
    """Convolution, batch normalisation (Ioffe & Szegedy, arXiv 1502.03167), ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride, padding, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


def strided() -> Trunk:
    """Four convolutions, two of them strided.

    The strides do what pooling would, before the costly part: most of the time of a small network on MNIST
    goes into the first layers at full resolution. MNIST's images have an empty margin, so that neither the outer
    two pixels nor padding of the first layer are missed.
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
    """Three convolutions, for 99 % in seconds. AVX-512 normalises 16 channels faster than 12."""
    return Trunk(
        24,
        32 * 3 * 3,
        conv_block(1, 16, kernel=5, stride=2, padding=0),  # 24x24 -> 10x10
        conv_block(16, 24, kernel=3, stride=2),  # 10x10 -> 5x5
        conv_block(24, 32, kernel=3, padding=0),  # 5x5 -> 3x3
    )


class Pooled(nn.Module):
    """The greatest value and the mean of each channel, wherever it is: float [N, C, H, W] to [N, 2C]."""

    def forward(self, channels: Tensor) -> Tensor:
        """Give first the greatest values, then the means."""
        return torch.cat([channels.amax(dim=(2, 3)), channels.mean(dim=(2, 3))], dim=1)


def five_convolutions() -> tuple[nn.Module, ...]:
    """Give the layers of `large` and `pooled`, none strided, from 24x24 pixels to 128 channels of 4x4."""
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
    """Five convolutions and where each channel is: more accurate than `strided`, for four times the work.

    The mean of four looks makes fewer errors than one look if images are deskewed, and more if they are not: see
    benchmarks/README.md.
    """
    return Trunk(24, 128 * 4 * 4, *five_convolutions(), looks=2, equivariant=2)


def pooled() -> Trunk:
    """The same convolutions, then what each channel has found, not where: the most accurate, trained long.

    For images that are not deskewed, with strong warps. Looks whole pixels beside: nothing between pixels is mixed.
    """
    return Trunk(24, 2 * 128, *five_convolutions(), Pooled(), looks=3, equivariant=2)


def tiny() -> Trunk:
    """Five narrow convolutions, none strided: over 99.5 % with 7,448 weights."""
    return Trunk(
        24,
        14 * 2 * 2,
        conv_block(1, 6, kernel=3, padding=0),  # 24x24 -> 22x22
        conv_block(6, 12, kernel=3, padding=0),  # 22x22 -> 20x20
        nn.MaxPool2d(2),  # 20x20 -> 10x10
        conv_block(12, 16, kernel=3),
        conv_block(16, 16, kernel=3, padding=0),  # 10x10 -> 8x8
        nn.MaxPool2d(2),  # 8x8 -> 4x4
        conv_block(16, 14, kernel=3, padding=0),  # 4x4 -> 2x2
    )


def seed_concat() -> Trunk:
    """The layers of the older solution `concat`."""
    return Trunk(
        28,
        12 * 4 * 4,
        *(nn.Conv2d(1, 6, kernel_size=5), nn.ReLU(), nn.MaxPool2d(2)),  # 28x28 -> 24x24 -> 12x12
        *(nn.Conv2d(6, 12, kernel_size=5), nn.ReLU(), nn.MaxPool2d(2)),  # 12x12 -> 8x8 -> 4x4
    )


def seed_add() -> Trunk:
    """The layers of the older solution `add`, up to the one that gives the digit."""
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
    "seed_concat": seed_concat,
    "seed_add": seed_add,
}
