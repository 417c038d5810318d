"""A comparison as Markdown, in the order in which a reviewer asks, and as JSON."""

from collections.abc import Iterator
from dataclasses import astuple
from statistics import mean, median, stdev
from typing import Any

from digitsum.report.compare import BETTER, NOISE, SAME, UNKNOWN, WORSE, Comparison, Score, same_configuration
from digitsum.report.revisions import SEED_RUNS, Run
from digitsum.report.tables import markdown_table

SHOWN = 12  # names of a kind in the first lines; the JSON has them all
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
    """Return the verdict as a title, and a sentence on digit, sum and joint accuracy."""
    runs = f"`{comparison.head.name}` against `{comparison.base.name}`"
    by_verdict = {
        verdict: [score.name for score in comparison.scores if score.verdict == verdict]
        for verdict in (WORSE, BETTER, NOISE, SAME, UNKNOWN)
    }
    if len(by_verdict[SAME]) == len(comparison.scores):
        same = comparison.base.results == comparison.head.results
        what = "every output is the same, byte for byte" if same else "the same images are correct"
        return f"## No change\n\n{runs}: {what}."
    parts = [f"{verdict} in {_listed(names)}" for verdict, names in by_verdict.items() if names]
    return f"## {comparison.verdict.capitalize()}\n\n{runs}: the trained model is {'; '.join(parts)}."


def _changes(comparison: Comparison) -> Iterator[str]:
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
        base, head = _with_interval(score.base, score.base_interval), _with_interval(score.head, score.head_interval)
        rows.append([score.name, base, head, *_difference(score), f"**{score.verdict}**"])
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
    return f"In brackets: 95 %, each by itself (Wilson; the difference: {how}). p is Holm's, for all three."


def _seeds(comparison: Comparison) -> Iterator[str]:
    if same_configuration(comparison.base, comparison.head):
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
    rows = [
        [f"{answer} {label}", figure, f"{100 * base:.2f}", f"{100 * head:.2f}", _shown_p(p)]
        for answer, label, figure, base, head, p in map(astuple, comparison.classes)
    ]
    table = markdown_table(["class", "", "base %", "head %", "p"], rows)
    return f"Classes that changed beyond noise (Holm, for all looked at):\n\n{table}"


def _cost(comparison: Comparison) -> str:
    base, head = comparison.base, comparison.head
    elsewhere = ", not on the same machine" if base.machines != head.machines and base.seeds and head.seeds else ""
    costs = {
        "weights": (base.metrics.get("weights"), head.metrics.get("weights"), ""),
        "floating-point operations an image": (base.metrics.get(FLOP), head.metrics.get(FLOP), ""),
        "CPU-seconds of training": (_training_seconds(base), _training_seconds(head), elsewhere),
    }
    parts = [
        f"{name} {_shown(before)} → {_shown(after)}{where}"
        for name, (before, after, where) in costs.items()
        if before != after
    ]
    return f"Cost: {'; '.join(parts) or 'unchanged'}."


def _training_seconds(run: Run) -> float | None:
    return round(median(scores["cpu_seconds"] for scores in run.seeds.values())) if run.seeds else None


def _other_figures(comparison: Comparison) -> str:
    base, head = comparison.base.metrics, comparison.head.metrics
    shown_above = {f"{score.name}.accuracy" for score in comparison.scores} | {"weights", FLOP}
    rows = [
        [key, _shown(base.get(key)), _shown(head.get(key))]
        for key in {**base, **head}
        if base.get(key) != head.get(key) and key not in shown_above
    ]
    if not rows:
        return ""
    table = markdown_table(["", "base", "head"], rows)
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


def _shown(value: float | None) -> str:
    return "not recorded" if value is None else f"{value:,}"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
