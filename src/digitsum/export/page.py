"""The web page: one HTML file with the weights, the code that computes, and nothing to load from elsewhere.

web/ has its parts: page.html and page.js are what one sees, picture.js finds the digit, network.js and kernel.wat are
the network. Weights are whole numbers of 16 bits with a scale for each layer: half the bytes of float32, and a tenth of
the error that float16 has.
"""

import base64
import html
import json
import math
from collections.abc import Iterable
from dataclasses import asdict
from importlib.resources import files
from typing import Any

import torch
from torch import Tensor, nn
from wasmtime import wat2wasm

from digitsum.model.evidence import ENCLOSED, LEAST_CONTRAST, LEAST_SIGNAL, NO_LIMITS, SURE
from digitsum.model.folded import folded, layers_of
from digitsum.model.fusions import Shift
from digitsum.model.network import Network
from digitsum.model.trunks import MaxAndMean

LAYERS = (nn.Conv2d, nn.ReLU, nn.MaxPool2d, MaxAndMean, nn.Flatten)  # that network.js has
LARGEST = 2**15 - 1  # of 16 bits
WITHOUT = '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>digitsum</title>\n<p>{}</p>\n</html>\n'


def to_page(network: Network) -> str:
    """Return the page of a network in eval mode, on the CPU; one that only says why, if it cannot compute the network.

    Equal networks give equal pages.
    """
    reason = refusal(network)
    if reason:
        return WITHOUT.format(html.escape(reason))
    numbers = "".join(
        f'<label><input type="radio" name="number" value="{number}"{" checked" * (number == 0)}>{number}</label>'
        for number in range(10)
    )
    scripts = [_web(f"{name}.js") for name in ("picture", "network", "page")]
    parts = {"numbers": numbers, "model": json.dumps(_model(network)), "script": "\n".join(scripts)}
    page = _web("page.html")
    for name, part in parts.items():
        page = page.replace(f"{{{name}}}", part)
    return page


def refusal(network: Network) -> str | None:
    """Return in one line why the page cannot compute a network, or None."""
    if not isinstance(network.fusion, Shift):
        return f"The page cannot compute the fusion {network.model.fusion}; models/digitsum.onnx has this model."
    if not all(isinstance(layer, LAYERS) for layer in layers_of(folded(network).trunk.embed)):
        return f"The page cannot compute the trunk {network.model.trunk}; models/digitsum.onnx has this model."
    return None


def with_page_weights(network: Network) -> Network:
    """Return the folded network with its weights rounded as the page has them."""
    network = folded(network)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            whole, scale = _rounded(layer.weight)
            layer.weight.data = whole * scale
    return network


def _rounded(weights: Tensor) -> tuple[Tensor, float]:
    """Return weights as whole numbers of at most LARGEST, and what to multiply them with."""
    weights = weights.detach()
    scale = max(float(weights.abs().max()), 1e-30) / LARGEST
    return (weights / scale).round(), scale


def _model(network: Network) -> dict[str, Any]:
    """Return what the page computes with: settings, layers, the weights of all layers in order, the compiled kernel."""
    trunk = folded(network).trunk
    layers = _described([*layers_of(trunk.embed), trunk.classify])
    shared = sum(not isinstance(layer, nn.ReLU) for layer in layers_of(trunk.embed[: trunk.shared_layers]))
    return {
        "crop": trunk.crop,
        "shifts": trunk.num_shifts,
        "deskew": network.model.deskew,
        "mean": network.pixel_mean.item(),
        "deviation": network.pixel_std.item(),
        "temperature": network.digit_temperature.item(),
        "rules": {
            **asdict(network.limits or NO_LIMITS),
            "sure": SURE,
            "contrast": LEAST_CONTRAST,
            "signal": LEAST_SIGNAL,
            "enclosed": ENCLOSED,
        },
        "shared": layers[:shared],
        "rest": layers[shared:-1],
        "classify": layers[-1],
        "kernel": _base64(bytes(wat2wasm(_web("kernel.wat")))),
    }


def _described(layers: Iterable[nn.Module]) -> list[dict[str, Any]]:
    """Return what network.js has to know of each layer. Weights are int16, by output, row, column and input."""
    described: list[dict[str, Any]] = []
    channels = 1
    for layer in layers:
        if isinstance(layer, nn.ReLU):  # before maxima it gives the same as behind them
            next(entry for entry in reversed(described) if entry["kind"] == "conv")["relu"] = 1
        elif isinstance(layer, nn.MaxPool2d):
            described.append({"kind": "maxPool"})
        elif isinstance(layer, MaxAndMean):
            described.append({"kind": "maxAndMean"})
            channels *= 2
        elif isinstance(layer, nn.Conv2d | nn.Linear):
            # A linear layer is a convolution whose kernel has the size of its input.
            whole, scale = _rounded(_ungrouped(layer).view(layer.weight.shape[0], channels, -1))
            entry = {"kind": "conv", "kernel": math.isqrt(whole.shape[2]), "inputs": channels}
            entry |= {"outputs": len(whole), "stride": 1, "padding": 0, "relu": 0, "scale": scale}
            if isinstance(layer, nn.Conv2d):
                entry |= {"stride": layer.stride[0], "padding": layer.padding[0]}
            biases = torch.zeros(len(whole)) if layer.bias is None else layer.bias.detach()
            entry["biases"] = _base64(biases.numpy().astype("<f4").tobytes())
            entry["weights"] = _base64(whole.transpose(1, 2).numpy().astype("<i2").tobytes())
            described.append(entry)
            channels = len(whole)
    return described


def _ungrouped(layer: nn.Conv2d | nn.Linear) -> Tensor:
    """Return the weights of a layer, those of a convolution in groups as one without: 0 between two groups."""
    if not isinstance(layer, nn.Conv2d) or layer.groups == 1:
        return layer.weight
    outputs, inputs, *kernel = layer.weight.shape
    dense = torch.zeros(outputs, layer.groups, inputs, *kernel)
    places = torch.arange(outputs)
    dense[places, places // (outputs // layer.groups)] = layer.weight.detach()
    return dense.flatten(1, 2)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _web(name: str) -> str:
    return files("digitsum.export").joinpath("web", name).read_text(encoding="utf-8").removeprefix('"use strict";\n')
