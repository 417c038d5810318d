"""Trunks: from an image to digit logits and to an embedding that a fusion may use."""

from torch import Tensor, nn

DIGITS = 10  # classes 0-9


def conv_block(channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution, batch normalisation (Ioffe & Szegedy, arXiv 1502.03167), ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


class StridedTrunk(nn.Module):
    """Three convolutions, two of them strided, then one linear layer.

    The strides do what pooling would, before the costly part: most of the time of a small network on MNIST
    goes into the first layers at full resolution.
    """

    embedding_features = 64 * 7 * 7

    def __init__(self) -> None:
        """Make the layers, with PyTorch's default initial weights."""
        super().__init__()
        self.embed = nn.Sequential(
            conv_block(1, 24, kernel=5, stride=2),  # 28x28 -> 14x14
            conv_block(24, 48, kernel=3, stride=2),  # 14x14 -> 7x7
            conv_block(48, 64, kernel=3),
            nn.Flatten(),
        )
        self.classify = nn.Linear(self.embedding_features, DIGITS)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map normalised images, float [N, 1, 28, 28], to digit logits [N, 10] and embeddings [N, E]."""
        embedding = self.embed(images)
        return self.classify(embedding), embedding
