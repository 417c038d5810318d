"""Two runs against each other: what changed, and which differences are more than noise."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digitsum.core.params import settings_digest
from digitsum.report.revisions import Answers, Run
from digitsum.report.significance import (
    LEVEL,
    Difference,
    holm,
    paired,
    precision_p,
    probability_of_beating,
    share_of_pairs,
    unpaired,
    wilson,
)

BETTER, WORSE, NOISE, SAME, UNKNOWN = "better", "worse", "within noise", "no change", "cannot be told"
TEST_IMAGES = ("fetch.test_images_sha256", "fetch.test_labels_sha256")


@dataclass(frozen=True)
class Score:
    """An accuracy, 0-1, of both runs, each with its 95 % interval; what is said of the difference, and why.

    `p` is corrected for the other scores. `difference` and `p` are None if the runs cannot be compared.
    """

    name: str
    base: float
    head: float
    base_interval: tuple[float, float]
    head_interval: tuple[float, float]
    difference: Difference | None
    p: float | None
    verdict: str


@dataclass(frozen=True)
class ClassChange:
    """The recall or precision, 0-1, of one class that changed by more than noise; `p` is corrected for all classes."""

    answer: str
    label: int
    figure: str
    base: float
    head: float
    p: float


@dataclass(frozen=True)
class Comparison:
    """All that a report says. lost, won: the images, int64, that have fewer and more right answers of head."""

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
    """Compare two runs. What cannot be compared is said in the notes, with its cure."""
    notes: list[str] = []
    for run in (base, head):
        if run.stale:
            more = f", and {len(run.stale) - 3} more" if len(run.stale) > 3 else ""
            notes.append(
                f"The results of {run.name} are of an earlier state: {'; '.join(run.stale[:3])}{more}. "
                "`dvc repro` there brings them up to date."
            )
    changed = what_changed(base, head)
    scores, classes = [], []
    lost = won = np.empty(0, dtype=np.int64)
    if any(base.params.get(key) != head.params.get(key) for key in TEST_IMAGES):
        notes.append("The test sets are different images, so that no difference between the two runs can be tested.")
        scores = [_alone(name, base, head) for name in RIGHT]
    elif base.answers is None or head.answers is None:
        notes += [
            f"The predictions of {run.name} are neither in DVC's cache nor in a remote, so that it is not known which "
            f"images changed; `dvc pull evaluate` or `dvc repro` in a checkout of it brings them."
            for run in (base, head)
            if run.answers is None
        ]
        if all(run.params.get("pair.pairs_per_image") == 1 for run in (base, head)):
            scores = _from_counts(base, head)
        else:
            notes.append("Pairs share images, so that without predictions no difference can be tested.")
            scores = [_alone(name, base, head) for name in RIGHT]
    else:
        scores = _from_answers(base.answers, head.answers)
        change = by_image(head.answers, RIGHT["joint"]) - by_image(base.answers, RIGHT["joint"])
        images = np.unique(base.answers.image)
        lost, won = images[change < 0], images[change > 0]
        if not same_pairs(base.answers, head.answers):
            notes.append(
                "The images were asked with other numbers. Accuracies are compared image by image all the same; the "
                "sum's classes hold other images, and are not."
            )
        classes = changed_classes(base.answers, head.answers)
    common = base.seeds.keys() & head.seeds.keys()
    joint = [{seed: run.seeds[seed]["joint"] for seed in common} for run in (head, base)]
    beats = probability_of_beating(*joint) if common and not same_configuration(base, head) else None
    return Comparison(base, head, changed, _overall(scores), scores, classes, lost, won, beats, notes)


def same_configuration(base: Run, head: Run) -> bool:
    """Return whether both runs were trained alike, but for the seed and the numerics, as far as parameters tell."""
    return settings_digest(base.params) == settings_digest(head.params)


# --- What changed --------------------------------------------------------------------------------------------------


def what_changed(base: Run, head: Run) -> dict[str, list[str]]:
    """Name what differs between two runs: parameters, code and data that went in."""
    gone = {key: value for key, value in base.params.items() if key not in head.params}
    new = {key: value for key, value in head.params.items() if key not in base.params}
    lines = []
    for key, value in gone.items():
        alike, rivals = (
            [other for other in keys if _likely_one(other, keys[other], key, value)] for keys in (new, gone)
        )
        if len(alike) == len(rivals) == 1:
            del new[alike[0]]
            lines.append(f"`{key}` is called `{alike[0]}`, still {value}")
        else:
            lines.append(f"`{key}` {value} is gone")
    lines += [
        f"`{key}` {base.params[key]} → {value}"
        for key, value in head.params.items()
        if key in base.params and base.params[key] != value
    ]
    lines += [f"`{key}` {value} is new" for key, value in new.items()]
    code = [
        f"`{path}` ({', '.join(head.code.get(path, base.code.get(path, ('', [])))[1])})"
        for path in sorted(base.code.keys() | head.code.keys())
        if base.code.get(path, ("", []))[0] != head.code.get(path, ("", []))[0]
    ]
    data = [
        f"`{path}`"
        for path in sorted(base.results.keys() | head.results.keys())
        if path.startswith(("data/raw", "data/paired")) and base.results.get(path) != head.results.get(path)
    ]
    return {"parameters": lines, "code": code, "data": data}


def _likely_one(key: str, value: Any, other: str, other_value: Any) -> bool:
    """Return whether two parameters may be one under two names: the same value under the same group."""
    return bool(value == other_value) and key.partition(".")[0] == other.partition(".")[0]


# --- Accuracies ----------------------------------------------------------------------------------------------------


RIGHT: dict[str, Callable[[Answers], NDArray[np.bool_]]] = {
    "digit": lambda answers: answers.said["digit"] == answers.truth["digit"],
    "sum": lambda answers: answers.said["sum"] == answers.truth["sum"],
    "joint": lambda answers: RIGHT["digit"](answers) & RIGHT["sum"](answers),
}


def by_image(answers: Answers, right: Callable[[Answers], NDArray[np.bool_]]) -> NDArray[np.float64]:
    """Return what part of each image's pairs is right, float [M], in the order of the images."""
    return share_of_pairs(answers.image, right(answers))


def same_pairs(base: Answers, head: Answers) -> bool:
    """Return whether both models answered for the same images with the same numbers."""
    return np.array_equal(base.image, head.image) and np.array_equal(base.number, head.number)


def _from_answers(base: Answers, head: Answers) -> list[Score]:
    shares = {name: (by_image(base, right), by_image(head, right)) for name, right in RIGHT.items()}
    # Digit, sum and joint are one question where they agree about every image, as they do with the fusion shift.
    questions = {name: (after - before).tobytes() for name, (before, after) in shares.items()}
    differences = {name: paired(*both) for name, both in shares.items()}
    changed = any(one.lost or one.won for one in differences.values())
    return _judge(differences, questions, len(np.unique(base.image)), changed)


def _from_counts(base: Run, head: Run) -> list[Score]:
    images = _pairs(head)  # one each
    rights = {name: [round(_accuracy(run, name) * images) for run in (base, head)] for name in RIGHT}
    differences = {name: unpaired(both[0], both[1], images) for name, both in rights.items()}
    return _judge(
        differences, {name: tuple(both) for name, both in rights.items()}, images, base.results != head.results
    )


def _judge(differences: dict[str, Difference], questions: dict[str, Any], images: int, changed: bool) -> list[Score]:
    """Return the scores with a word for each, `questions` telling which of them are the same one, asked twice."""
    p_values = {questions[name]: one.p for name, one in differences.items()}
    corrected = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    scores = []
    for name, one in differences.items():
        p = corrected[questions[name]]
        word = SAME if not changed else NOISE if p >= LEVEL else BETTER if one.change > 0 else WORSE
        intervals = _interval(one.base, images), _interval(one.head, images)
        scores.append(Score(name, one.base, one.head, *intervals, one, p, word))
    return scores


def _alone(name: str, base: Run, head: Run) -> Score:
    before, after = _accuracy(base, name), _accuracy(head, name)
    intervals = _interval(before, _pairs(base)), _interval(after, _pairs(head))
    return Score(name, before, after, *intervals, None, None, UNKNOWN)


def _pairs(run: Run) -> int:
    return int(run.confusion["digit"].sum())


def _interval(part: float, images: int) -> tuple[float, float]:
    return wilson(round(part * images), images)


def _accuracy(run: Run, name: str) -> float:
    return run.metrics[f"{name}.accuracy"]


def _overall(scores: list[Score]) -> str:
    words = {score.verdict for score in scores}
    for word in (WORSE, BETTER, UNKNOWN, NOISE):  # a reviewer must hear of what got worse, whatever got better
        if word in words:
            return word
    return SAME


# --- Classes -------------------------------------------------------------------------------------------------------


def changed_classes(base: Answers, head: Answers) -> list[ClassChange]:
    """Return the classes whose recall or precision changed beyond noise, after Holm's correction for all of them.

    Where images have several pairs, precision is tested on the first pair of each.
    """
    changes = []
    for answer, classes in (("digit", 10), ("sum", 19)):
        if answer == "sum" and not same_pairs(base, head):
            continue
        firsts = [np.unique(run.image, return_index=True)[1] for run in (base, head)]
        truth = base.truth[answer][firsts[0]]
        for label in range(classes):
            shares = [
                share_of_pairs(run.image[within], run.said[answer][within] == label)
                for run in (base, head)
                for within in [run.truth[answer] == label]
            ]
            if len(shares[0]):
                recall = paired(*shares)
                changes.append(ClassChange(answer, label, "recall", recall.base, recall.head, recall.p))
            says = [run.said[answer][first] == label for run, first in zip((base, head), firsts, strict=True)]
            precisions = [float((truth[say] == label).mean()) if say.any() else 0.0 for say in says]
            p = precision_p(truth == label, *says)
            changes.append(ClassChange(answer, label, "precision", precisions[0], precisions[1], p))
    corrected = holm([change.p for change in changes])
    return [replace(change, p=p) for change, p in zip(changes, corrected, strict=True) if p < LEVEL]
