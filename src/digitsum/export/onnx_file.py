"""The model as ONNX: images and numbers in, logits out, for any number of images."""

import contextlib
import json
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from digitsum.model.evidence import NO_LIMITS
from digitsum.model.folded import folded
from digitsum.model.network import Network

OPSET = 20  # of ONNX's operators: GridSample has the modes of PyTorch


class Inference(nn.Module):
    """A network without the checks of its inputs, which depend on values: no graph can have them."""

    def __init__(self, network: Network) -> None:
        """Take the network."""
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Map images [N, 28, 28] and numbers [N] to logits as `Network.forward` does."""
        return self.network.calibrated(*self.network.forward_pixels(images.float(), numbers))


def to_onnx(network: Network) -> bytes:
    """Return the ONNX file of a network on the CPU. Equal networks give equal bytes, whatever process or folder.

    Inputs: `images` uint8 [N, 28, 28], `numbers` int64 [N] in 0-9. Outputs: `digit_logits` float32 [N, 10] and
    `sum_logits` float32 [N, 19], calibrated. The metadata `limits` are those of the evidence of a digit, as JSON.
    """
    batch = torch.export.Dim("N", min=0)
    inputs = torch.zeros(2, 28, 28, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)
    with warnings.catch_warnings(), default_precision():
        warnings.simplefilter("ignore")  # deprecations within the exporter
        program = torch.onnx.export(
            Inference(folded(network)),
            inputs,
            dynamo=True,
            dynamic_shapes=({0: batch}, {0: batch}),
            input_names=["images", "numbers"],
            output_names=["digit_logits", "sum_logits"],
            opset_version=OPSET,
            verbose=False,
        )
    assert program
    model = program.model_proto
    _remove_traces(model)
    onnx.helper.set_model_props(model, {"limits": json.dumps(asdict(network.limits or NO_LIMITS))})
    return model.SerializeToString(deterministic=True)


@contextlib.contextmanager
def default_precision() -> Iterator[None]:
    """Set PyTorch's default precision: the exporter asks whether TF32 is allowed, which fails with any other."""
    backends: Any = torch.backends
    defaults = {backends: "none", backends.cudnn.conv: "tf32", backends.cuda.matmul: "none"}
    before = {products: products.fp32_precision for products in defaults}
    for products, precision in defaults.items():
        products.fp32_precision = precision
    try:
        yield
    finally:
        for products, precision in before.items():
            products.fp32_precision = precision


def with_weights(onnx_file: bytes, network: Network) -> bytes:
    """Return the ONNX file with the weights of `network`, a folded one of the same layers."""
    model = onnx.load_from_string(onnx_file)
    weights = {f"network.{name}": weight for name, weight in network.named_parameters()}
    for initializer in model.graph.initializer:
        if initializer.name in weights:
            values = weights[initializer.name].detach().contiguous().numpy()
            initializer.CopyFrom(onnx.numpy_helper.from_array(values, initializer.name))
    return model.SerializeToString(deterministic=True)


def _remove_traces(model: onnx.ModelProto) -> None:
    """Remove the exporter's stack traces, which hold paths and counters, and the build of PyTorch."""
    model.producer_version = model.producer_version.partition("+")[0]
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.value_info, *graph.initializer, *graph.input, *graph.output):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
