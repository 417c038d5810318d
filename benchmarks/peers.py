"""The peers, written from their published descriptions: layers, optimizer, schedule, batch size.

Each is a function that takes MNIST, a seed and a device, trains there, and yields the network after every epoch, so
that a benchmark can stop the clock, score it, and continue.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from digitsum.mnist.idx import RawMnist
from digitsum.model.fusions import FUSIONS
from digitsum.model.trunks import TRUNKS

MEAN, STD = 0.1307, 0.3081  # of MNIST's training images, as all the write-ups have it
Classifier = Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]
"""Takes uint8 images [N, 28, 28] and numbers [N], on the device; returns digit logits [N, 10], and sum logits [N, 19],
or None if it knows no numbers."""


def tuomaso(mnist: RawMnist, seed: int, device: torch.device) -> Iterator[Classifier]:
    """github.com/tuomaso/train_mnist_fast, its last step: one epoch, all data in memory, no augmentation."""
    torch.manual_seed(seed)
    images, digits = in_memory(mnist, device)
    network = nn.Sequential(
        nn.Conv2d(1, 24, 5), nn.MaxPool2d(2), nn.ReLU(),
        nn.Conv2d(24, 32, 3), nn.MaxPool2d(2), nn.ReLU(),
        nn.Flatten(), nn.Linear(800, 256), nn.ReLU(), nn.Linear(256, 10),
    ).to(device)  # fmt: skip
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01, betas=(0.7, 0.9))
    batches = torch.randperm(len(images)).to(device).split(256)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, len(batches), cycle_momentum=False)
    for batch in batches:
        learn(network, optimizer, images[batch], digits[batch])
        schedule.step()
    yield digits_only(network)


def pytorch_examples(mnist: RawMnist, seed: int, device: torch.device) -> Iterator[Classifier]:
    """github.com/pytorch/examples, mnist: up to 14 epochs of Adadelta. For a fair comparison with data in memory."""
    torch.manual_seed(seed)
    images, digits = in_memory(mnist, device)
    network = nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25),
        nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10),
    ).to(device)  # fmt: skip
    optimizer = torch.optim.Adadelta(network.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.7)
    for _ in range(14):
        network.train()
        for batch in torch.randperm(len(images)).to(device).split(64):
            learn(network, optimizer, images[batch], digits[batch])
        schedule.step()
        yield digits_only(network)


def cdeotte(mnist: RawMnist, seed: int, device: torch.device) -> Iterator[Classifier]:
    """github.com/cdeotte/MNIST-CNN-99.75, one of its networks: up to 30 epochs of Adam, every image warped each time.

    It trains on nine tenths of the images, and only watches its accuracy on the rest. Keras's defaults stand where its
    author names nothing. Pixels between those of the image are bilinear.
    """
    torch.manual_seed(seed)
    images, digits = (torch.from_numpy(part.copy()).to(device) for part in (mnist.train_images, mnist.train_labels))
    pixels, digits = scaled(images), digits.long()
    network = cdeotte_network().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # as Keras
    optimizer = torch.optim.Adam(network.parameters(), lr=0.001, eps=1e-7)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.95)
    kept = torch.randperm(len(images))[: len(images) * 9 // 10].to(device)
    for _ in range(30):
        network.train()
        shuffled = kept[torch.randperm(len(kept)).to(device)]
        for batch in shuffled[: len(kept) // 64 * 64].split(64):
            learn(network, optimizer, warped(pixels[batch]), digits[batch])
        schedule.step()
        network.eval()
        yield lambda images, numbers: (network(scaled(images)), None)


def cdeotte_network() -> nn.Sequential:
    """Return the layers of cdeotte: seven convolutions, two of them strided, no pooling.

    Initial weights and batch normalisation are Keras's, whose padding "same" of a stride of 2 is one pixel more below
    and to the right.
    """

    def block(channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> list[nn.Module]:
        convolution = nn.Conv2d(channels_in, channels_out, kernel, stride)
        return [convolution, nn.ReLU(), nn.BatchNorm2d(channels_out, eps=0.001, momentum=0.01)]

    same = nn.ZeroPad2d((1, 2, 1, 2))
    network = nn.Sequential(
        *(*block(1, 32, 3), *block(32, 32, 3), same, *block(32, 32, 5, stride=2), nn.Dropout(0.4)),
        *(*block(32, 64, 3), *block(64, 64, 3), same, *block(64, 64, 5, stride=2), nn.Dropout(0.4)),
        *(*block(64, 128, 4), nn.Flatten(), nn.Dropout(0.4), nn.Linear(128, 10)),
    )
    for layer in network:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            assert layer.bias is not None
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return network


def warped(pixels: Tensor) -> Tensor:
    """Return images [N, 1, 28, 28], each through a random affine map of its own, as Keras's ImageDataGenerator does.

    Rotated by up to 15 degrees, both axes scaled by up to 15 % and shifted by up to 10 %.
    """
    draws = torch.rand(len(pixels), 5, device=pixels.device) * 2 - 1
    angle, zoom, shift = math.radians(15) * draws[:, 0], 1 + 0.15 * draws[:, 1:3], 2 * 0.1 * draws[:, 3:]
    cosine, sine = angle.cos(), angle.sin()
    rotation = torch.stack([cosine, -sine, sine, cosine], dim=1).view(-1, 2, 2)
    maps = torch.cat([rotation * zoom.unsqueeze(1), rotation @ shift.unsqueeze(2)], dim=2)
    grid = functional.affine_grid(maps, list(pixels.shape), align_corners=False)
    return functional.grid_sample(pixels, grid, padding_mode="border", align_corners=False)


class Baseline(nn.Module):
    """Trunk and fusion of a baseline, and the softmax that both had before the cross-entropy."""

    def __init__(self, name: str) -> None:
        """Make the trunk and the fusion that the pipeline calls `name`."""
        super().__init__()
        self.trunk = TRUNKS[name]()
        self.fusion = FUSIONS[name](self.trunk.features)

    def forward(self, images: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Map normalised images [N, 1, 28, 28] and numbers [N] to probabilities, [N, 10] and [N, 19]."""
        digit, total = self.fusion(*self.trunk(images), numbers)
        return digit.softmax(dim=1), total.softmax(dim=1)


def baseline_concat(mnist: RawMnist, seed: int, device: torch.device) -> Iterator[Classifier]:
    """The baseline `concat`: softmax before the cross-entropy, a new number at every access."""
    torch.manual_seed(seed)
    return train_by_items(Baseline("baseline_concat").to(device), Items(mnist, redraw=True), 128, device)


def baseline_add(mnist: RawMnist, seed: int, device: torch.device) -> Iterator[Classifier]:
    """The baseline `add`: softmax before the cross-entropy, numbers drawn once."""
    torch.manual_seed(seed)
    return train_by_items(Baseline("baseline_add").to(device), Items(mnist, redraw=False), 200, device)


class Items(Dataset[Any]):
    """One image at a time, converted to a tensor and normalised at every access, as in tutorials."""

    def __init__(self, mnist: RawMnist, redraw: bool) -> None:
        """Keep the images; draw the numbers once, unless they are drawn at every access."""
        self.mnist, self.redraw = mnist, redraw
        self.to_tensor = transforms.Compose(
            [transforms.ToPILImage(), transforms.ToTensor(), transforms.Normalize((MEAN,), (STD,))]
        )
        self.numbers = torch.randint(0, 10, (len(self),))

    def __len__(self) -> int:
        """Count the training images."""
        return len(self.mnist.train_images)

    def __getitem__(self, index: int) -> tuple[Tensor, int, int, int]:
        """Return image [1, 28, 28], digit, number, sum."""
        number = int(torch.randint(0, 10, ())) if self.redraw else int(self.numbers[index])
        digit = int(self.mnist.train_labels[index])
        return self.to_tensor(self.mnist.train_images[index]), digit, number, digit + number


def train_by_items(network: nn.Module, items: Items, batch_size: int, device: torch.device) -> Iterator[Classifier]:
    """Train ten epochs with Adam, 0.001, on digit and sum; the write-ups do not name the optimizers."""
    optimizer = torch.optim.Adam(network.parameters(), lr=0.001)
    for _ in range(10):
        for batch in DataLoader(items, batch_size, shuffle=True):
            images, digits, numbers, sums = (part.to(device) for part in batch)
            digit, total = network(images, numbers)
            loss = functional.cross_entropy(digit, digits) + functional.cross_entropy(total, sums)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        yield lambda images, numbers: network(normalised(images), numbers)


def learn(network: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, digits: Tensor) -> None:
    """Train one step on a batch; `network` returns digit logits."""
    loss = functional.cross_entropy(network(images), digits)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def in_memory(mnist: RawMnist, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the training images, normalised, [M, 1, 28, 28], and their digits [M]."""
    images, digits = (torch.from_numpy(part.copy()).to(device) for part in (mnist.train_images, mnist.train_labels))
    return normalised(images), digits.long()


def normalised(images: Tensor) -> Tensor:
    """Scale uint8 images [N, 28, 28] to mean 0 and deviation 1, [N, 1, 28, 28]."""
    return ((images.float() / 255 - MEAN) / STD).unsqueeze(1)


def scaled(images: Tensor) -> Tensor:
    """Scale uint8 images [N, 28, 28] to 0-1, [N, 1, 28, 28]."""
    return (images.float() / 255).unsqueeze(1)


def digits_only(network: nn.Module) -> Classifier:
    """Return a classifier of digits only."""
    network.eval()
    return lambda images, numbers: (network(normalised(images)), None)


PEERS = {
    "tuomaso": tuomaso,
    "pytorch_examples": pytorch_examples,
    "cdeotte": cdeotte,
    "baseline_concat": baseline_concat,
    "baseline_add": baseline_add,
}
