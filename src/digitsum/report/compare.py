"""Two runs against each other: what changed, and which differences are more than noise."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digitsum.report.revisions import CLASSES, RecordedPredictions, Run
from digitsum.report.settings import settings_digest
from digitsum.report.significance import (
    LEVEL,
    Difference,
    holm,
    paired_difference,
    precision_p,
    probability_of_beating,
    share_of_pairs,
    unpaired_difference,
    wilson,
)
from digitsum.report.tables import code, shown

BETTER, WORSE, NOISE, SAME, UNKNOWN = "better", "worse", "within noise", "no change", "cannot be told"
SCORES = {"digit": ("digit",), "sum": ("sum",), "joint": ("digit", "sum")}  # the answers that must be correct
TEST_SET = ("test_images_sha256", "test_labels_sha256")  # last names of parameters; their group has changed
GROUP, LAST_NAME = 0, -1  # parts of a parameter's name, as in compute.numerics


@dataclass(frozen=True)
class Score:
    """An accuracy, 0-1, of both runs, each with its 95 % interval; the verdict on their difference, and its reason.

    `p` is corrected for the other scores. What follows the verdict is None if the runs cannot be compared; lost and
    won, in images, also if predictions are missing. same_as: the score that agrees with this one on every image.
    """

    name: str
    base: float
    head: float
    base_interval: tuple[float, float]
    head_interval: tuple[float, float]
    verdict: str
    p: float | None = None
    difference: float | None = None
    interval: tuple[float, float] | None = None
    lost: int | None = None
    won: int | None = None
    same_as: str | None = None


@dataclass(frozen=True)
class ClassChange:
    """The recall or precision, 0-1, of one class that changed beyond noise; `p` is corrected for all classes.

    follows_from: the digit whose change explains that of this sum.
    """

    answer: str
    label: int
    figure: str
    base: float
    head: float
    p: float
    follows_from: int | None = None


@dataclass(frozen=True)
class Comparison:
    """All that a report shows. lost, won: the images, int64, of which head has fewer and more pairs correct."""

    base: Run
    head: Run
    changed: dict[str, list[str]]
    verdict: str
    scores: list[Score]
    classes: list[ClassChange]
    lost: NDArray[np.int64]
    won: NDArray[np.int64]
    beats: float | None
    notes: list[str]


def compare(base: Run, head: Run) -> Comparison:
    """Compare two runs. The notes name what cannot be compared, and what to do about it."""
    notes: list[str] = []
    for run in (base, head):
        if run.stale:
            more = f", and {len(run.stale) - 3} more" if len(run.stale) > 3 else ""
            notes.append(
                f"The results of {shown(run.name)} are of an earlier state: {'; '.join(run.stale[:3])}{more}. "
                "`dvc repro` there brings them up to date."
            )
    classes = []
    lost = won = np.empty(0, dtype=np.int64)
    if _test_set(base) != _test_set(head) or not _same_images(base.predictions, head.predictions):
        notes.append("The test sets are different images, so that no difference between the two runs can be tested.")
        scores = [_untested(name, base, head) for name in SCORES]
    elif base.predictions is None or head.predictions is None:
        notes += [
            f"The predictions of {shown(run.name)} are not in DVC's cache or in a remote, so that it is not known "
            f"which images changed; `dvc pull evaluate` or `dvc repro` in a checkout of it brings them."
            for run in (base, head)
            if run.predictions is None
        ]
        if all(run.params.get("pair.pairs_per_image") == 1 for run in (base, head)):
            scores = _from_counts(base, head)
        else:
            notes.append("Pairs share images, so that without predictions no difference can be tested.")
            scores = [_untested(name, base, head) for name in SCORES]
    else:
        scores = _from_predictions(base.predictions, head.predictions)
        change = by_image(head.predictions, "joint") - by_image(base.predictions, "joint")
        images = np.unique(base.predictions.image)
        lost, won = images[change < 0], images[change > 0]
        if not same_pairs(base.predictions, head.predictions):
            notes.append(
                "The images were paired with other numbers. Accuracies are compared image by image all the same. The "
                "sum's classes hold other images and are not compared."
            )
        classes = changed_classes(base.predictions, head.predictions)
    common = base.seeds.keys() & head.seeds.keys()
    joint = [{seed: run.seeds[seed]["joint"] for seed in common} for run in (head, base)]
    beats = probability_of_beating(*joint) if common and not same_configuration(base, head) else None
    return Comparison(base, head, what_changed(base, head), _overall(scores), scores, classes, lost, won, beats, notes)


# --- What changed --------------------------------------------------------------------------------------------------


def same_configuration(base: Run, head: Run) -> bool:
    """Return whether both runs have the same parameters, apart from the seed, the numerics and the names of groups."""
    moved = _renamed(base.params, head.params, parts=(LAST_NAME,))
    before = {moved.get(key, key): value for key, value in base.params.items()}
    return settings_digest(before) == settings_digest(head.params)


def only_seeds_changed(base: Run, head: Run) -> list[str]:
    """Return the names of the parameters that changed, if all are seeds and no code changed."""
    keys = base.params.keys() | head.params.keys()
    changed = sorted(key for key in keys if base.params.get(key) != head.params.get(key))
    same_code = {path: md5 for path, (md5, _) in base.code.items()} == {p: md5 for p, (md5, _) in head.code.items()}
    return changed if same_code and all(key.endswith(".seed") for key in changed) else []


def what_changed(base: Run, head: Run) -> dict[str, list[str]]:
    """Return what differs between two runs, by name: parameters, files of code, and data."""
    names = _renamed(base.params, head.params, parts=(LAST_NAME, GROUP))
    parameters = []
    for key, value in base.params.items():
        if key in names:
            parameters.append(f"{code(key)} is called {code(names[key])}, still {_shown(value)}")
        elif key not in head.params:
            parameters.append(f"{code(key)} {_shown(value)} is gone")
    for key, value in head.params.items():
        if key not in base.params and key not in names.values():
            parameters.append(f"{code(key)} {_shown(value)} is new")
        elif key in base.params and base.params[key] != value:
            parameters.append(f"{code(key)} {_shown(base.params[key])} → {_shown(value)}")
    files = [
        f"{code(path)} ({', '.join(map(shown, stages))})"
        for path, (_, stages) in sorted((base.code | head.code).items())
        if base.code.get(path, [""])[0] != head.code.get(path, [""])[0]
    ]
    data = [
        code(path)
        for path in sorted(base.results | head.results)
        if path.startswith(("data/raw", "data/paired")) and base.results.get(path) != head.results.get(path)
    ]
    return {"parameters": parameters, "code": files, "data": data}


def _renamed(base: dict[str, Any], head: dict[str, Any], parts: Iterable[int]) -> dict[str, str]:
    """Return the new name of each parameter that kept its value and one of `parts` of its name.

    A parameter is left out where two could be meant.
    """
    names: dict[str, str] = {}
    for part in parts:
        gone = [key for key in base if key not in head and key not in names]
        new = [key for key in head if key not in base and key not in names.values()]
        pairs = [(old, key) for old in gone for key in new if old.split(".")[part] == key.split(".")[part]]
        pairs = [(old, key) for old, key in pairs if base[old] == head[key]]
        olds, news = ([pair[place] for pair in pairs] for place in (0, 1))
        names |= {old: key for old, key in pairs if olds.count(old) == news.count(key) == 1}
    return names


def _shown(value: Any) -> str:
    text = str(value)
    return shown(text if len(text) <= 24 else f"{text[:12]}…")  # of a digest its beginning


# --- Accuracies ----------------------------------------------------------------------------------------------------


def correct(predictions: RecordedPredictions, score: str) -> NDArray[np.bool_]:
    """Return which pairs are correct, bool [P], in digit, in sum, or in both ("joint")."""
    return np.all([predictions.predicted[answer] == predictions.actual[answer] for answer in SCORES[score]], axis=0)


def by_image(predictions: RecordedPredictions, score: str) -> NDArray[np.float64]:
    """Return the share of each image's pairs that are correct, float [M], in the order of the images."""
    return share_of_pairs(predictions.image, correct(predictions, score))


def same_pairs(base: RecordedPredictions, head: RecordedPredictions) -> bool:
    """Return whether both models predicted the same images with the same numbers."""
    return np.array_equal(base.image, head.image) and np.array_equal(base.number, head.number)


def _test_set(run: Run) -> set[str]:
    return {str(digest) for key, digest in run.params.items() if key.endswith(TEST_SET)}


def _from_predictions(base: RecordedPredictions, head: RecordedPredictions) -> list[Score]:
    shares = {name: (by_image(base, name), by_image(head, name)) for name in SCORES}
    # Digit, sum and joint are one question where they change on the same images, as they do with the fusion shift.
    questions = {name: (after - before).tobytes() for name, (before, after) in shares.items()}
    differences = {name: paired_difference(*both) for name, both in shares.items()}
    changed = any(difference.lost or difference.won for difference in differences.values())
    scores = _judge(differences, questions, len(np.unique(base.image)), changed)
    answers = {name: np.concatenate(both).tobytes() for name, both in shares.items()}
    first = {answer: name for name, answer in reversed(answers.items())}
    earlier = {name: first[answer] for name, answer in answers.items() if first[answer] != name}
    return [replace(score, same_as=earlier.get(score.name)) for score in scores]


def _from_counts(base: Run, head: Run) -> list[Score]:
    images = _images(head)
    counts = {name: (round(_accuracy(base, name) * images), round(_accuracy(head, name) * images)) for name in SCORES}
    differences = {name: unpaired_difference(*both, images) for name, both in counts.items()}
    return _judge(differences, counts, images, changed=base.results != head.results)


def _judge(differences: dict[str, Difference], questions: dict[str, Any], images: int, changed: bool) -> list[Score]:
    """Return the scores with their verdicts; scores with equal `questions` are tested once."""
    p_values = {questions[name]: difference.p for name, difference in differences.items()}
    corrected = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    scores = []
    for name, difference in differences.items():
        p, base, head = corrected[questions[name]], difference.base, difference.head
        verdict = SAME if not changed else NOISE if p >= LEVEL else BETTER if head > base else WORSE
        accuracies = base, head, _interval(base, images), _interval(head, images)
        tested = head - base, difference.interval, difference.lost, difference.won
        scores.append(Score(name, *accuracies, verdict, p, *tested))
    return scores


def _untested(name: str, base: Run, head: Run) -> Score:
    before, after = _accuracy(base, name), _accuracy(head, name)
    intervals = _interval(before, _images(base)), _interval(after, _images(head))
    return Score(name, before, after, *intervals, UNKNOWN)


def _images(run: Run) -> int:
    """Return the number of test images; the confusion counts each pair of an image."""
    pairs = run.params.get("pair.pairs_per_image")
    return int(run.confusion["digit"].sum()) // (pairs if type(pairs) is int and pairs > 0 else 1) or 1


def _same_images(base: RecordedPredictions | None, head: RecordedPredictions | None) -> bool:
    """Return whether predictions, where both are known, are of the same images with the same digits."""
    if base is None or head is None:
        return True
    firsts = [np.unique(run.image, return_index=True) for run in (base, head)]
    digits = [run.actual["digit"][first] for run, (_, first) in zip((base, head), firsts, strict=True)]
    return np.array_equal(firsts[0][0], firsts[1][0]) and np.array_equal(digits[0], digits[1])


def _interval(part: float, images: int) -> tuple[float, float]:
    return wilson(round(part * images), images)


def _accuracy(run: Run, name: str) -> float:
    return run.metrics[f"{name}.accuracy"]


def _overall(scores: list[Score]) -> str:
    verdicts = {score.verdict for score in scores}
    # A reviewer must hear of what got worse, whatever got better.
    return next((verdict for verdict in (WORSE, BETTER, UNKNOWN, NOISE) if verdict in verdicts), SAME)


# --- Classes -------------------------------------------------------------------------------------------------------


def changed_classes(base: RecordedPredictions, head: RecordedPredictions) -> list[ClassChange]:
    """Return the classes whose recall or precision changed beyond noise, after Holm's correction; the largest first.

    A sum follows from a digit if it does not change beyond noise where the predicted digits did not. Where images have
    several pairs, precision is tested on the first pair of each.
    """
    classes = _tested_classes(base, head)
    if same_pairs(base, head):
        other_digit = base.predicted["digit"] != head.predicted["digit"]
        rest = _tested_classes(*(_part(run, ~other_digit) for run in (base, head))) if not other_digit.all() else []
        by_themselves = {(change.answer, change.label, change.figure) for change in rest}
        digits = {change.label for change in classes if change.answer == "digit"}
        for place, change in enumerate(classes):
            if change.answer == "sum" and (change.answer, change.label, change.figure) not in by_themselves:
                concerned = base.actual["sum"] if change.figure == "recall" else base.predicted["sum"]
                other = head.predicted["sum"] if change.figure == "precision" else concerned
                pairs = other_digit & ((concerned == change.label) | (other == change.label))
                cause = int(np.bincount(base.actual["digit"][pairs], minlength=10).argmax())
                classes[place] = replace(change, follows_from=cause if pairs.any() and cause in digits else None)
    largest: dict[tuple[str, int], float] = {}
    for change in classes:
        key = change.answer, change.label
        largest[key] = max(largest.get(key, 0), abs(change.head - change.base))
    return sorted(classes, key=lambda change: -largest[change.answer, change.label])


def _tested_classes(base: RecordedPredictions, head: RecordedPredictions) -> list[ClassChange]:
    changes = []
    firsts = [np.unique(run.image, return_index=True)[1] for run in (base, head)]
    for answer, classes in CLASSES.items():
        if answer == "sum" and not same_pairs(base, head):
            continue
        labels = base.actual[answer][firsts[0]]
        predicted = [run.predicted[answer][first] for run, first in zip((base, head), firsts, strict=True)]
        for label in range(classes):
            if label in base.actual[answer]:
                recall = paired_difference(_recalls(base, answer, label), _recalls(head, answer, label))
                changes.append(ClassChange(answer, label, "recall", recall.base, recall.head, recall.p))
            actual, (before, after) = labels == label, (column == label for column in predicted)
            precisions = [float(actual[found].mean()) if found.any() else 0.0 for found in (before, after)]
            p = precision_p(actual, before, after)
            changes.append(ClassChange(answer, label, "precision", precisions[0], precisions[1], p))
    corrected = holm([change.p for change in changes])
    return [replace(change, p=p) for change, p in zip(changes, corrected, strict=True) if p < LEVEL]


def _part(predictions: RecordedPredictions, pairs: NDArray[np.bool_]) -> RecordedPredictions:
    actual, predicted = (
        {answer: labels[pairs] for answer, labels in columns.items()}
        for columns in (predictions.actual, predictions.predicted)
    )
    return RecordedPredictions(predictions.image[pairs], predictions.number[pairs], actual, predicted)


def _recalls(predictions: RecordedPredictions, answer: str, label: int) -> NDArray[np.float64]:
    """Return the correct share of the pairs of a class, float [M], for each image that has such pairs."""
    members = predictions.actual[answer] == label
    return share_of_pairs(predictions.image[members], predictions.predicted[answer][members] == label)
