"""Where a training step's time goes, and how far it is from what the cores can do.

    make costs    # writes the tables of benchmarks/README.md

Each part runs by itself, many times, one batch of the default recipe a time; the least of its times is taken, for
what else the machine does can only add to it. Parts do not add up to the whole step exactly: caches are warmer alone.
"""

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.growth import ROUNDS, run_alone
from digitsum.data.splits import load_split
from digitsum.model.network import new_network
from digitsum.model.preprocess import after, look, upright
from digitsum.core.numerics import PORTABLE
from digitsum.core.params import load_params
from digitsum.training.augment import affine_maps, draw_warps
from digitsum.training.loop import pair_losses
from studies.measuring import errors_in_one_line, machine, put_between

README, BEGIN, END = Path("benchmarks/README.md"), "<!-- costs: written by `make costs` -->", "<!-- end of costs -->"
REPEATS = 30


def main() -> None:
    """Measure and write the tables."""
    params = load_params("train")
    torch.set_num_threads(1)
    training = load_split(Path("data/paired/train.safetensors"))
    batch = torch.arange(min(params.train.batch_size, len(training)))
    images, digits, numbers = training[batch]
    pixels = images.float()
    network = new_network(params.model, training)
    train = params.train
    draws = draw_warps(len(batch), torch.Generator().manual_seed(0))
    warps = affine_maps(draws, train.rotation, train.scaling, train.shear, train.translation)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, fused=True)
    averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.99), use_buffers=True)

    def loss_of(digit_logits: Tensor, sum_logits: Tensor) -> Tensor:
        losses = pair_losses(digit_logits, sum_logits, digits, numbers, train)
        return torch.lerp(*losses, train.sum_loss_share)

    def loss() -> Tensor:
        return loss_of(*network.answer(pixels, numbers, warps))

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        averaged.update_parameters(network)

    whole, flop = least_seconds(step), flop_of(lambda: loss().backward())
    rows = [("whole step", whole, flop)]
    rows.append(
        (
            "deskew, warp and sample",
            least_seconds(lambda: look(pixels, after(upright(pixels), warps), network.trunk.side)),
            0,
        )
    )
    view = look(pixels, upright(pixels), network.trunk.side).unsqueeze(1) / 255
    for number, block in enumerate(network.trunk.embed[:-1], 1):
        values = view.detach().contiguous(memory_format=torch.channels_last).requires_grad_(number > 1)
        view = block(values)
        sides = f"{values.shape[-1]}² to {view.shape[-1]}²"
        parts = {f"pooling, {sides}": block}
        if isinstance(block, nn.Sequential):
            name = f"convolution {values.shape[1]}→{view.shape[1]}, {sides}"
            parts = {name: block[0], "the same, normalised, ReLU": block}
        for name, part in parts.items():
            run = forward_and_backward(part, values)
            rows.append((name, least_seconds(run), flop_of(run)))
    logits = torch.randn(len(batch), 10, requires_grad=True)
    fused = least_seconds(lambda: loss_of(*network.fusion(logits, logits, numbers)).backward())
    rows.append(("fusion and loss, from digit logits", fused, 0))
    rows.append(("optimiser", least_seconds(optimizer.step), 0))
    rows.append(("average of the weights", least_seconds(lambda: averaged.update_parameters(network)), 0))
    rows.append(("indexing the batch", least_seconds(lambda: training[batch][0].float()), 0))

    split = Path("data/paired/train.safetensors")
    epochs = [[run_alone(split, settings=settings)[2] for settings in ({}, PORTABLE)] for _ in range(ROUNDS)]
    native, portable = map(min, zip(*epochs, strict=True))

    peak = matrix_product_flops()
    lines = [f"| part of a step of {len(batch)} pairs, one thread | ms | share | GFLOP/s |", "|---|---|---|---|"]
    for name, seconds, operations in rows:
        speed = f"{operations / seconds / 1e9:.0f}" if operations else ""
        lines.append(f"| {name} | {1000 * seconds:.2f} | {seconds / whole:.0%} | {speed} |")
    all_flop = flop / len(batch) * len(training) * params.train.epochs
    its_flop = flop_of(forward_and_backward(cdeotte().eval(), torch.zeros(1, 1, 28, 28))) * 60_000 * 30
    lines += [
        "",
        f"A step is {flop / 1e9:.2f} GFLOP, {flop / len(batch) / 1e6:.1f} MFLOP a pair, forward and back; the "
        f"{params.train.epochs:g} epochs of training are {all_flop / 1e12:.1f} TFLOP. A product of two matrices of "
        f"1024 x 1024 ran at {peak / 1e9:.0f} GFLOP/s, a copy at {copy_bytes() / 1e9:.1f} GB/s. At the speed of the "
        f"product a step would take {1000 * flop / peak:.1f} ms: {flop / peak / whole:.0%} of what it takes. All this "
        "with `train.numerics: native`.",
        "",
        "A network of [cdeotte/MNIST-CNN-99.75](https://github.com/cdeotte/MNIST-CNN-99.75), trained for 30 epochs of "
        f"60,000 images, takes {its_flop / 1e12:.0f} TFLOP, counted in the same way: {its_flop / all_flop:.0f} times "
        "as many. The mean of 1,500 of them, 99.64 %, is what the default is measured against.",
        "",
        f"An epoch as in the stage train takes {native:.1f} CPU-seconds natively and {portable:.1f} with "
        f"`train.numerics: portable`: {portable / native:.2f} times as many (least of {ROUNDS} in turn). "
        f"Measured on: {machine(torch.device('cpu'))}.",
    ]
    put_between(README, BEGIN, END, "\n".join(lines))
    print("\n".join(lines))


def cdeotte() -> nn.Sequential:
    """Return the network of github.com/cdeotte/MNIST-CNN-99.75: seven convolutions, two of them strided, no pooling."""

    def block(channels_in: int, channels_out: int, kernel: int, stride: int = 1, padding: int = 0) -> list[nn.Module]:
        return [
            nn.Conv2d(channels_in, channels_out, kernel, stride, padding),
            nn.ReLU(),
            nn.BatchNorm2d(channels_out),
        ]

    return nn.Sequential(
        *(*block(1, 32, 3), *block(32, 32, 3), *block(32, 32, 5, stride=2, padding=2), nn.Dropout(0.4)),
        *(*block(32, 64, 3), *block(64, 64, 3), *block(64, 64, 5, stride=2, padding=2), nn.Dropout(0.4)),
        *(*block(64, 128, 4), nn.Flatten(), nn.Dropout(0.4), nn.Linear(128, 10)),
    )


def least_seconds(run: Callable[[], object]) -> float:
    """Return the shortest of many runs, after two that do not count."""
    times = []
    for _ in range(REPEATS + 2):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times[2:])


def forward_and_backward(part: nn.Module, values: Tensor) -> Callable[[], None]:
    """Return a function that runs `part` on `values` and back."""
    gradient = torch.ones_like(part(values))

    def run() -> None:
        part(values).backward(gradient)

    return run


def flop_of(run: Callable[[], object]) -> int:
    """Count floating point operations, a multiplication with its addition as two."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def matrix_product_flops() -> float:
    """Return the floating point operations a second of a large matrix product."""
    matrix = torch.randn(1024, 1024)
    return 2 * 1024**3 / least_seconds(lambda: matrix @ matrix)


def copy_bytes() -> float:
    """Return the bytes a second, read and written, of a copy that fits in no cache."""
    source = torch.zeros(64 * 1024**2)
    target = torch.empty_like(source)
    return 2 * source.nbytes / least_seconds(lambda: target.copy_(source))


if __name__ == "__main__":
    with errors_in_one_line():
        main()
