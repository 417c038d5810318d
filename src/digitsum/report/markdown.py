"""A comparison as Markdown, in the order in which a reviewer asks, and as JSON."""

from collections.abc import Iterator
from statistics import mean, median, stdev
from typing import Any

from digitsum.report.compare import (
    BETTER,
    NOISE,
    SAME,
    UNKNOWN,
    WORSE,
    ClassChange,
    Comparison,
    Score,
    only_seeds_changed,
    same_configuration,
)
from digitsum.report.revisions import SEED_RUNS, Run
from digitsum.report.tables import code, markdown_table, shown

SHOWN = 12  # names of a kind in the first lines; the JSON has them all
ROWS = 40  # of a table
FLOP = "flop_per_image"


def to_markdown(comparison: Comparison, figures: dict[str, str]) -> str:
    """Return the report; `figures` are the paths of figures by their titles, shown at its end."""
    paragraphs = [
        headline(comparison),
        "\n".join(_changes(comparison)),
        score_table(comparison.scores),
        _how_tested(comparison.scores),
        "\n".join(_seeds(comparison)),
        _classes(comparison),
        _cost(comparison),
        _other_figures(comparison),
        "\n".join(f"- **Note:** {note}" for note in comparison.notes),
        *(f"**{title}**\n\n![{title}]({path})" for title, path in figures.items()),
    ]
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph) + "\n"


def headline(comparison: Comparison) -> str:
    """Return the verdict as a title, and a sentence on digit, sum and joint accuracy and on what changed most."""
    runs = f"{code(comparison.head.name)} against {code(comparison.base.name)}"
    by_verdict = {
        verdict: [score.name for score in comparison.scores if score.verdict == verdict]
        for verdict in (WORSE, BETTER, NOISE, SAME, UNKNOWN)
    }
    if len(by_verdict[SAME]) == len(comparison.scores):
        same = comparison.base.results == comparison.head.results
        what = "every output is the same, byte for byte" if same else "the same images are correct"
        return f"## No change\n\n{runs}: {what}."
    parts = [f"{verdict} in {_listed(names)}" for verdict, names in by_verdict.items() if names]
    most = _changed_most(comparison.classes)
    return f"## {comparison.verdict.capitalize()}\n\n{runs}: the trained model is {'; '.join(parts)}{most}."


def _changed_most(classes: list[ClassChange]) -> str:
    """Return the end of a sentence that names the classes whose recall fell most or, if none fell, rose most."""
    changes = [change for change in classes if change.figure == "recall" and change.follows_from is None]
    fallen = [change for change in changes if change.head < change.base]
    largest = fallen or changes
    if not largest:
        return ""
    least = abs(largest[0].head - largest[0].base) / 2
    named = [change for change in largest if abs(change.head - change.base) >= least]
    parts = [
        f"**{change.answer} {change.label}** (recall {100 * change.base:.2f} → {100 * change.head:.2f} %)"
        for change in named[:3]
    ]
    more = f" and {len(named) - 3} more" if len(named) > 3 else ""
    return f"; {'worst hit' if fallen else 'most improved'}: {', '.join(parts)}{more}"


def _changes(comparison: Comparison) -> Iterator[str]:
    if only_seeds_changed(comparison.base, comparison.head):
        yield (
            "- **Only a seed changed.** These are two runs of one configuration: they show how far such runs lie "
            "apart. They cannot show that anything got better or worse but this one model, on these test images."
        )
    for kind, lines in comparison.changed.items():
        if lines:
            more = f" and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
            yield f"- Changed {kind}: {', '.join(lines[:SHOWN])}{more}"
    if not any(comparison.changed.values()):
        results_too = comparison.base.results == comparison.head.results
        yield "- Nothing that a stage declares has changed" + (
            "." if results_too else ": other versions of libraries, or another machine, made the difference."
        )


def score_table(scores: list[Score]) -> str:
    """Return the accuracies, in percent, and the verdicts on their differences."""
    rows = []
    for score in scores:
        if score.same_as:
            continue
        name = ", ".join(one.name for one in scores if score.name in (one.name, one.same_as))
        base, head = _with_interval(score.base, score.base_interval), _with_interval(score.head, score.head_interval)
        rows.append([name, base, head, *_difference(score), f"**{score.verdict}**"])
    return markdown_table(["accuracy %", "base", "head", "difference", "images lost, won", "p", ""], rows)


def _difference(score: Score) -> tuple[str, str, str]:
    if score.difference is None or score.interval is None:
        return "", "", ""
    images = "not known" if score.lost is None else f"{score.lost}, {score.won}"
    return _with_interval(score.difference, score.interval, sign="+"), images, _shown_p(score.p)


def _how_tested(scores: list[Score]) -> str:
    if scores[0].difference is None:
        return "In brackets: 95 % (Wilson)."
    if scores[0].lost is None:
        how = "Fisher's exact test and Newcombe's interval, as if of different images: they find less"
    else:
        how = "exact McNemar test over the images that differ, and Bonett and Price's interval"
    questions = sum(score.same_as is None for score in scores)
    p = f"p is Holm's, for all {questions}" if questions > 1 else "Digit, sum and joint agree on every image: one test"
    return f"In brackets: 95 %, each by itself (Wilson; the difference: {how}). {p}."


def _seeds(comparison: Comparison) -> Iterator[str]:
    if same_configuration(comparison.base, comparison.head):
        joint = [100 * scores["joint"] for scores in comparison.head.seeds.values()]
        if len(joint) > 1 and only_seeds_changed(comparison.base, comparison.head):
            yield f"- Over {len(joint)} seeds joint accuracy is {mean(joint):.2f} ± {stdev(joint):.2f} %."
        return
    for name, run in (("base", comparison.base), ("head", comparison.head)):
        if len(run.seeds) > 1:
            joint = [100 * scores["joint"] for scores in run.seeds.values()]
            yield f"- {name} over {len(joint)} seeds: joint {mean(joint):.2f} ± {stdev(joint):.2f} %"
    if comparison.beats is not None:
        seeds = len(comparison.base.seeds.keys() & comparison.head.seeds.keys())
        yield f"- P(head beats base) = {comparison.beats:.2f}, joint accuracy, {seeds} paired seeds"
    else:
        yield (
            "- These are two trained models, one run each: nothing is said of the two configurations. To compare "
            f"those, run `make seeds` on both branches and commit `{SEED_RUNS}`."
        )


def _classes(comparison: Comparison) -> str:
    if not len(comparison.lost) + len(comparison.won) + len(comparison.classes):
        return ""
    if not comparison.classes:
        return "No class changed beyond noise, in recall or precision (Holm, for all looked at)."
    rows = []
    unfolded = {change.follows_from for change in comparison.classes} - {None}
    for change in comparison.classes:
        if change.follows_from is not None:
            continue
        sums = ""
        if change.answer == "digit" and change.label in unfolded:  # under the digit's largest change
            unfolded.discard(change.label)
            sums = _sums({one.label for one in comparison.classes if one.follows_from == change.label})
        percent = [f"{100 * share:.2f}" for share in (change.base, change.head)]
        difference = f"{100 * (change.head - change.base):+.2f}"
        rows.append([f"{change.answer} {change.label}", change.figure, *percent, difference, _shown_p(change.p), sums])
    headers = ["class", "", "base %", "head %", "difference", "p", "sums that follow"]
    table = markdown_table(headers, rows)
    return f"Classes that changed beyond noise (Holm, for all looked at), the largest change first:\n\n{table}"


def _sums(labels: set[int]) -> str:
    """Return whole numbers as runs, such as "7 to 9, 12"."""
    starts = sorted(label for label in labels if label - 1 not in labels)
    ends = sorted(label for label in labels if label + 1 not in labels)
    return ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in zip(starts, ends, strict=True))


def _cost(comparison: Comparison) -> str:
    base, head = comparison.base, comparison.head
    elsewhere = ", not on the same machine" if base.machines != head.machines and base.seeds and head.seeds else ""
    costs = {
        "weights": (base.metrics.get("weights"), head.metrics.get("weights"), ""),
        "floating-point operations an image": (base.metrics.get(FLOP), head.metrics.get(FLOP), ""),
        "CPU-seconds of training": (_training_seconds(base), _training_seconds(head), elsewhere),
    }
    parts = [
        f"{name} {before:,} → {after:,}{where}"
        for name, (before, after, where) in costs.items()
        if before is not None and after is not None and before != after  # what one run did not record is no cost
    ]
    return f"Cost: {'; '.join(parts) or 'unchanged'}."


def _training_seconds(run: Run) -> float | None:
    return round(median(scores["cpu_seconds"] for scores in run.seeds.values())) if run.seeds else None


def _other_figures(comparison: Comparison) -> str:
    base, head = comparison.base.metrics, comparison.head.metrics
    shown_above = {f"{score.name}.accuracy" for score in comparison.scores} | {"weights", FLOP}
    rows = [
        [shown(key), _number(base.get(key)), _number(head.get(key))]
        for key in {**base, **head}
        if base.get(key) != head.get(key) and key not in shown_above
    ]
    if not rows:
        return ""
    table = markdown_table(["", "base", "head"], rows[:ROWS])
    table += f"\n\nand {len(rows) - ROWS} more" if len(rows) > ROWS else ""
    return f"<details><summary>Other figures that differ, untested</summary>\n\n{table}\n\n</details>"


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Return all that the report shows, for programs; accuracies and p-values 0-1, images by their place in MNIST."""
    return {
        "base": comparison.base.name,
        "head": comparison.head.name,
        "verdict": comparison.verdict,
        "changed": comparison.changed,
        "scores": {
            score.name: {key: value for key, value in vars(score).items() if key != "name"}
            for score in comparison.scores
        },
        "classes": [vars(changed) for changed in comparison.classes],
        "images_lost": comparison.lost.tolist(),
        "images_won": comparison.won.tolist(),
        "probability_head_beats_base": comparison.beats,
        "notes": comparison.notes,
    }


def _with_interval(value: float, interval: tuple[float, float], sign: str = "") -> str:
    shown, low, high = (f"{100 * part:{sign}.2f}" for part in (value, *interval))
    return f"{shown} ({low} to {high})"


def _shown_p(p: float | None) -> str:
    return "" if p is None else "< 0.0001" if p < 0.0001 else f"{p:.4f}" if p < 0.1 else f"{p:.2f}"


def _number(value: float | None) -> str:
    return "not recorded" if value is None else f"{value:,}"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
