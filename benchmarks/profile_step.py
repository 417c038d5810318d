"""Profile of a training step: where its time goes, and how far it is from what a core can do.

    make profile    # writes the table in benchmarks/README.md

PyTorch's profiler watches the stage's own training loop for some steps of the default recipe, one thread. Time that an
operation spends in others that have a row of their own counts there, so that the parts add up to the step.
"""

import argparse
import dataclasses
import math
import time
import timeit
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.peers import cdeotte_network
from benchmarks.scaling import PAIRS, ROUNDS, run_alone
from digitsum.core.numerics import Compute
from digitsum.data.splits import Split, load_split
from digitsum.pairing.pairs import draw_numbers, paired
from digitsum.report.tables import markdown_table
from digitsum.training.loop import train_network
from digitsum.training.params import TrainingParams
from tools.recipes import read_recipe
from tools.tables import machine, marks, replace_between

README, MARKS = Path("benchmarks/README.md"), marks("profile", "make profile")
TRAINING = Path("data/paired/train.safetensors")
STEPS = 30
# The inputs of an operation begin with: the gradient of its output if it is the way back, its input, its weights.
CONVOLUTIONS = {"aten::convolution": 2, "aten::convolution_backward": 3}
PARTS = {
    "aten::batch_norm": "batch normalisation",
    "aten::native_batch_norm_backward": "batch normalisation",
    "aten::relu_": "ReLU",
    "aten::threshold_backward": "ReLU",
    "aten::max_pool2d": "pooling",
    "aten::max_pool2d_with_indices_backward": "pooling",
    "aten::grid_sampler": "sampling of warped images",
    "Optimizer.step#AdamW.step": "optimizer",
    "aten::_foreach_lerp_": "average of the weights",
}
WHOLE, REST, PYTHON = "whole step", "other operations: deskewing, fusion, loss and so on", "Python"


def main(arguments: Sequence[str], numerics: str) -> None:
    """Measure and write the table."""
    argparse.ArgumentParser(prog="python -m benchmarks profile_step", description=__doc__).parse_args(arguments)
    params = read_recipe().training
    training = load_split(TRAINING)
    batch_size, epochs = params.train.batch_size, params.train.epochs
    seconds, flop = profile_steps(dataclasses.replace(params, compute=Compute(numerics)), training)
    step, step_flop = seconds[WHOLE], sum(flop.values())
    rows = [
        [part, f"{1000 * of:.2f}", f"{of / step:.0%}", f"{flop[part] / of / 1e9:.0f}" if part in flop else ""]
        for part, of in seconds.items()
    ]
    product, copy = matrix_product_flops(), copy_bytes()
    all_flop = step_flop / batch_size * len(training) * epochs
    cdeotte_flop = 60_000 * 30 * flop_of_an_image(cdeotte_network())
    kinds = ("native", "portable")
    epoch_times = [
        [run_alone(kind, "train", str(TRAINING), PAIRS, False)["cpu_seconds"] for kind in kinds] for _ in range(ROUNDS)
    ]
    native, portable = map(min, zip(*epoch_times, strict=True))
    quantities = [
        ("convolutions of a step, forward and backward", f"{step_flop / 1e9:.2f} GFLOP"),
        ("the same for a pair", f"{step_flop / batch_size / 1e6:.1f} MFLOP"),
        (f"the same for all {epochs:g} epochs", f"{all_flop / 1e12:.1f} TFLOP"),
        ("product of two matrices of 1024 x 1024", f"{product / 1e9:.0f} GFLOP/s"),
        ("copy in memory, read and written", f"{copy / 1e9:.1f} GB/s"),
        ("a step at the speed of the product", f"{1000 * step_flop / product:.1f} ms"),
        ("a network of cdeotte/MNIST-CNN-99.75, 30 epochs of 60,000 images", f"{cdeotte_flop / 1e12:.0f} TFLOP"),
        (f"an epoch, native (lowest of {ROUNDS}, in turn)", f"{native:.1f} CPU-seconds"),
        ("an epoch, portable", f"{portable:.1f} CPU-seconds, {portable / native:.2f} times as many"),
    ]
    parts = markdown_table([f"part of a step of {batch_size} pairs, one thread", "ms", "share", "GFLOP/s"], rows)
    note = f"A step: {numerics} numerics. Measured on: {machine(torch.device('cpu'))}."
    text = "\n\n".join([parts, markdown_table(["quantity", "value"], quantities), note])
    replace_between(README, MARKS, text)


def profile_steps(params: TrainingParams, training: Split) -> tuple[dict[str, float], dict[str, float]]:
    """Return the seconds of each part of a step, the whole step first, and the FLOP of each convolution."""
    batch_size = params.train.batch_size
    images, digits = training.images[:batch_size], training.digits[:batch_size]
    split = paired(images, digits, draw_numbers(len(images), STEPS, "train", 0))
    one_pair = dataclasses.replace(split, image_index=split.image_index[:1], numbers=split.numbers[:1])
    params = dataclasses.replace(params, train=dataclasses.replace(params.train, epochs=1, clean_epochs=0))
    train_network(params, split, one_pair, torch.device("cpu"))  # compiles oneDNN's kernels
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as recorded:
        start = time.perf_counter()
        train_network(params, split, one_pair, torch.device("cpu"))
        whole = time.perf_counter() - start
    seconds: dict[str, float] = defaultdict(float)
    flop: dict[str, float] = defaultdict(float)
    for event in recorded.events():
        part, part_flop = part_of(event)
        seconds[part] += event.self_cpu_time_total / 1e6 / STEPS
        if part_flop and event.name in CONVOLUTIONS:  # once for each shard, not for the operations in it
            flop[part] += part_flop / STEPS
    python = whole / STEPS - sum(seconds.values())
    rest = seconds.pop(REST)
    longest_first = sorted(seconds.items(), key=lambda item: -item[1])
    return {WHOLE: whole / STEPS, **dict(longest_first), REST: rest, PYTHON: python}, flop


def part_of(event: FunctionEvent) -> tuple[str, int]:
    """Return the row of an event, and the FLOP that a step of its convolution takes, known on the way back.

    The row is that of the operation, or of the nearest one around it that has a row.
    """
    around: FunctionEvent | None = event
    while around is not None:
        if around.name in CONVOLUTIONS:
            shapes: Any = around.input_shapes[: CONVOLUTIONS[around.name]]
            *gradient, _, weight = shapes
            # Output, gradient of the weights and gradient of the input take a product each. Images need no gradient.
            products = 3 if weight[1] > 1 else 2
            flop = sum(2 * products * math.prod(shape) * math.prod(weight[1:]) for shape in gradient)
            return f"convolution {weight[1]}→{weight[0]}", flop
        if around.name in PARTS:
            return PARTS[around.name], 0
        around = around.cpu_parent
    return REST, 0


def flop_of_an_image(network: nn.Module) -> int:
    """Return the floating-point operations of a training step for one image, forward and backward.

    A multiplication and its addition are two.
    """
    with FlopCounterMode(display=False) as counter:
        network.eval()(torch.zeros(1, 1, 28, 28)).sum().backward()
    return counter.get_total_flops()


def matrix_product_flops() -> float:
    """Return the floating-point operations a second of a product of large matrices, one thread."""
    matrix = torch.randn(1024, 1024)
    return 2 * 1024**3 / min(timeit.repeat(lambda: matrix @ matrix, number=1, repeat=STEPS))


def copy_bytes() -> float:
    """Return the bytes a second, read and written, of a copy that no cache can hold, one thread."""
    source = torch.zeros(64 * 1024**2)
    target = torch.empty_like(source)
    return 2 * source.nbytes / min(timeit.repeat(lambda: target.copy_(source), number=1, repeat=STEPS))
