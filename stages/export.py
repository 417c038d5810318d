"""Stage export: write the model as ONNX and as a web page, and check both against the predictions of stage evaluate."""

from pathlib import Path

from digitsum.core.files import write_bytes, write_json
from digitsum.core.runner import Stage
from digitsum.data.splits import load_split
from digitsum.data.tensors import load_tensors
from digitsum.export.check import compare
from digitsum.export.onnx_file import to_onnx, with_weights
from digitsum.export.page import refusal, to_page, with_page_weights
from digitsum.model.network import load_model

ONNX, PAGE = "models/digitsum.onnx", "web/index.html"


def main(stage: Stage) -> None:
    """Read the model, the test split and the predictions for it; write both files and what their check found."""
    network = load_model("models/digitsum.safetensors")
    test = load_split(Path("data/paired/test.safetensors"))
    predictions, _ = load_tensors(Path("data/predictions/test.safetensors"))
    onnx, page = to_onnx(network), to_page(network).encode()
    metrics = {"onnx": {"bytes": len(onnx), **compare(onnx, test, predictions, ONNX)}}
    reason = refusal(network)
    if reason:
        print(reason)
    else:
        rounded = with_weights(onnx, with_page_weights(network))
        metrics["page"] = {"bytes": len(page), **compare(rounded, test, predictions, PAGE)}
    write_bytes(Path(ONNX), onnx)
    write_bytes(Path(PAGE), page)
    write_json(Path("metrics/export.json"), metrics)
    for name, found in metrics.items():
        print(f"{name}: {found['bytes']:,} bytes, {found['answers_changed']} answers changed")
