"""Stage evaluate: score the model on the test split, in metrics, tables and figures."""

from pathlib import Path

from digitsum.artifacts import write_json
from digitsum.data.splits import load_split
from digitsum.evaluation.predict import predict, save_predictions, score_all_numbers, see_images
from digitsum.model.network import load_model
from digitsum.numerics import compute_with
from digitsum.params import load_params
from digitsum.stage import run_stage


def main() -> None:
    """Read the model and the test split; predict; write predictions, metrics and plots."""
    params = load_params("evaluate")
    compute_with(params.train.numerics, threads=2)  # a fixed number, as it decides on bits
    network = load_model("models/digitsum.safetensors")
    test = load_split(Path("data/paired/test.safetensors"))
    # scikit-learn and matplotlib take seconds to import: not before the input has proved good.
    from digitsum.evaluation.figures import draw_confusion, draw_mistakes
    from digitsum.evaluation.metrics import confusion_table, headline_metrics, per_class_metrics, write_confusion

    evidence = see_images(network, test.images)
    predictions = predict(network, test, evidence)
    save_predictions(Path("data/predictions/test.safetensors"), predictions)
    all_numbers = score_all_numbers(network, test, evidence)
    headline = headline_metrics(predictions, all_numbers, params.evaluate.calibration_bins)
    write_json(Path("metrics/evaluate.json"), headline)
    write_json(Path("metrics/per_class.json"), per_class_metrics(predictions))
    for answer in ("digit", "sum"):
        table = confusion_table(predictions, answer)
        write_confusion(Path(f"plots/confusion_{answer}.csv"), table)
        draw_confusion(Path(f"plots/confusion_{answer}.png"), table)
    draw_mistakes(Path("plots/mistakes.png"), predictions, test, params.evaluate.mistakes_shown)
    print("  ".join(f"{name} {headline[name]['accuracy']:.2%}" for name in ("digit", "sum", "joint")))


if __name__ == "__main__":
    run_stage("evaluate", main)
