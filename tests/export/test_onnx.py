"""The ONNX file gives the network's answers, for any batch, with the same bytes in every process and folder."""

import json
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from harness.training import make_network

from digitsum.core.errors import DigitsumError
from digitsum.export.check import compare, probabilities
from digitsum.export.onnx_file import to_onnx, with_weights
from digitsum.export.page import with_page_weights
from digitsum.model.evidence import Limits
from digitsum.model.fusions import FUSIONS
from digitsum.model.trunks import TRUNKS
from digitsum.training.devices import set_precision

EXAMPLES = [  # each fusion and each trunk once; two of them are fast enough for every run
    ("shift", "strided"),
    ("concat", "tiny"),
    *[pytest.param(fusion, "small", marks=pytest.mark.slow) for fusion in FUSIONS if fusion not in ("shift", "concat")],
    *[pytest.param("shift", trunk, marks=pytest.mark.slow) for trunk in TRUNKS if trunk not in ("strided", "tiny")],
]


def varied(network):
    """Return the network in eval mode, with statistics of batch normalisation that are not the initial ones."""
    draws = torch.Generator().manual_seed(0)
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.copy_(0.2 * torch.rand(buffer.shape, generator=draws) - 0.1)
        if name.endswith("running_var"):
            buffer.copy_(0.05 + 0.1 * torch.rand(buffer.shape, generator=draws))
    network.digit_temperature.fill_(0.5)
    network.sum_temperature.fill_(0.7)
    return network.eval()


def inputs(count):
    draws = torch.Generator().manual_seed(count)
    images = torch.randint(0, 256, (count, 28, 28), dtype=torch.uint8, generator=draws)
    return images, torch.randint(0, 10, (count,), generator=draws)


@pytest.mark.parametrize(("fusion", "trunk"), EXAMPLES)
def test_onnx_gives_the_networks_logits_for_any_batch(fusion, trunk):
    network = varied(make_network(fusion, 0.1, 0.3, trunk=trunk))
    session = onnxruntime.InferenceSession(to_onnx(network), providers=["CPUExecutionProvider"])
    for count in (0, 1, 7, 500):
        images, numbers = inputs(count)
        with torch.no_grad():
            expected = network(images, numbers)
        found = session.run(None, {"images": images.numpy(), "numbers": numbers.numpy()})
        assert [logits.shape for logits in found] == [(count, 10), (count, 19)]
        assert count < 7 or expected[0].std(dim=0).min() > 0.001  # the images make a difference
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(torch.from_numpy(one).softmax(1), other.softmax(1), atol=1e-4, rtol=0)


def test_a_process_that_has_trained_exports_and_keeps_its_precision():
    set_precision("float32")
    network = make_network(trunk="small").eval()
    assert to_onnx(network) == to_onnx(network)
    assert torch.backends.fp32_precision == "ieee"


def test_the_file_carries_the_limits_and_nothing_of_the_machine():
    network = make_network(trunk="small").eval()
    network.limits = Limits(-4.0, -0.5)
    content = to_onnx(network)
    model = onnx.load_from_string(content)
    assert {prop.key: json.loads(prop.value) for prop in model.metadata_props} == {
        "limits": {"no_digit": -4.0, "unsure": -0.5}
    }
    onnx.checker.check_model(model, full_check=True)
    for trace in (b"/digitsum", b".py", b"site-packages", b"+cu"):
        assert trace not in content


EXPORT = """
import hashlib, sys, torch
from digitsum.export.onnx_file import to_onnx
from digitsum.model.network import load_model
print(hashlib.sha256(to_onnx(load_model(sys.argv[1]))).hexdigest())
"""


@pytest.mark.slow
def test_another_process_in_another_folder_writes_the_same_bytes(finished, tmp_path):
    models = [finished.folder, finished.copy(tmp_path / "another folder").folder]
    digests = []
    for folder in models:
        command = [sys.executable, "-c", EXPORT, "models/digitsum.safetensors"]
        environment = {**finished.environment, "PYTHONPATH": str(folder / "src")}
        digests.append(subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True))
    assert digests[0].stdout == digests[1].stdout
    assert len(digests[0].stdout) == 65


def test_the_check_counts_answers_that_changed_and_refuses_others(splits):
    torch.manual_seed(0)  # of the weights: two classes of one image have to be close
    network = varied(make_network(trunk="small"))
    content, split = to_onnx(network), splits["test"]
    digit, total = probabilities(content, split)
    recorded = {"digit_probabilities": digit, "sum_probabilities": total}
    assert compare(content, split, recorded, "it") == {"answers_changed": 0, "probabilities_differ_by": 1e-9}
    near = {name: part + 0.0004 * torch.eye(len(part), part.shape[1]) for name, part in recorded.items()}
    assert compare(content, split, near, "it")["probabilities_differ_by"] == 5e-4
    gaps = -digit.topk(2).values.diff().flatten()
    closest, likely = int(gaps.argmin()), digit.topk(2).indices
    swapped = digit.clone()
    swapped[closest, likely[closest]] = digit[closest, likely[closest].flip(0)]
    assert gaps.min() < 1e-3
    assert compare(content, split, recorded | {"digit_probabilities": swapped}, "it")["answers_changed"] == 1
    with pytest.raises(DigitsumError, match="it gives probabilities that are .* from the model's"):
        compare(content, split, recorded | {"digit_probabilities": digit.flip(1)}, "it")
    with pytest.raises(DigitsumError, match="nan"):
        compare(content, split, recorded | {"digit_probabilities": digit * float("nan")}, "it")


def test_the_weights_of_the_page_differ_by_rounding():
    network = varied(make_network(trunk="small"))
    content = to_onnx(network)
    on_page = with_page_weights(network)
    steps = on_page.trunk.classify.weight / on_page.trunk.classify.weight.abs().max() * (2**15 - 1)
    assert (steps - steps.round()).abs().max() < 0.01
    rounded = with_weights(content, on_page)
    images, numbers = (part.numpy() for part in inputs(100))
    one, other = (
        onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(
            ["digit_logits"], {"images": images, "numbers": numbers}
        )[0]
        for file in (content, rounded)
    )
    assert 0 < np.abs(one - other).max() < 1e-3 * np.abs(one).max()
