"""Stage evaluate: score the model on the test split, in metrics, tables and figures."""

from pathlib import Path

from digitsum.core.files import write_json
from digitsum.core.numerics import Compute, configure_torch
from digitsum.core.runner import Stage
from digitsum.data.splits import load_split
from digitsum.evaluation.params import Evaluate
from digitsum.evaluation.predict import encode_images, predict, save_predictions, score_all_numbers
from digitsum.model.network import load_model


def main(stage: Stage) -> None:
    """Read the model and the test split; predict; write predictions, metrics and plots."""
    params = stage.params(Evaluate)
    configure_torch(stage.params(Compute))
    network = load_model("models/digitsum.safetensors")
    test = load_split(Path("data/paired/test.safetensors"))
    # scikit-learn and matplotlib take 0.9 s to import: not before the input is checked.
    from digitsum.evaluation.confusion import draw_confusion, write_confusion
    from digitsum.evaluation.metrics import confusion_counts, headline_metrics, per_class_metrics
    from digitsum.evaluation.mistakes import draw_mistakes

    features = encode_images(network, test.images)
    predictions = predict(network, test, features)
    save_predictions(Path("data/predictions/test.safetensors"), predictions)
    headline = headline_metrics(predictions, score_all_numbers(network, test, features), params.calibration_bins)
    write_json(Path("metrics/evaluate.json"), headline)
    write_json(Path("metrics/per_class.json"), per_class_metrics(predictions))
    for answer in ("digit", "sum"):
        counts = confusion_counts(predictions, answer)
        write_confusion(Path(f"plots/confusion_{answer}.csv"), counts)
        draw_confusion(Path(f"plots/confusion_{answer}.png"), answer, counts)
    draw_mistakes(Path("plots/mistakes.png"), predictions, test, params.mistakes_shown)
    print("  ".join(f"{name} {headline[name]['accuracy']:.2%}" for name in ("digit", "sum", "joint")))
