"""A comparison as Markdown, in the order in which a reviewer asks, and as JSON."""

from collections.abc import Callable, Iterator
from statistics import mean, median, stdev
from typing import Any

from digitsum.report.compare import BETTER, NOISE, SAME, UNKNOWN, WORSE, Comparison, Score, same_configuration
from digitsum.report.revisions import Run

COSTS: dict[str, Callable[[Run], float | None]] = {
    "weights": lambda run: run.metrics.get("weights"),
    "floating-point operations an image": lambda run: run.metrics.get("flop_per_image"),
    "CPU-seconds of training": lambda run: (
        round(median(scores["cpu_seconds"] for scores in run.seeds.values())) if run.seeds else None
    ),
}
SHOWN = 12  # names of a kind in the first lines; the JSON has them all


def to_markdown(comparison: Comparison, figures: dict[str, str]) -> str:
    """Write the report; `figures` are paths of pictures by their titles, shown at its end."""
    paragraphs = [
        headline(comparison),
        "\n".join(_changes(comparison)),
        score_table(comparison),
        _how_tested(comparison.scores),
        "\n".join(_seeds(comparison)),
        "\n".join(_classes(comparison)),
        _cost(comparison),
        "\n".join(_other_figures(comparison)),
        "\n".join(f"- **Note:** {note}" for note in comparison.notes),
        *(f"**{title}**\n\n![{title}]({path})" for title, path in figures.items()),
    ]
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph) + "\n"


def headline(comparison: Comparison) -> str:
    """Say in one sentence what became of digit, sum and joint accuracy."""
    runs = f"`{comparison.head.name}` against `{comparison.base.name}`"
    by_word = {
        word: [score.name for score in comparison.scores if score.verdict == word]
        for word in (WORSE, BETTER, NOISE, SAME, UNKNOWN)
    }
    if len(by_word[SAME]) == len(comparison.scores):
        same = comparison.base.results == comparison.head.results
        what = "every output is the same, byte for byte" if same else "the same images are right"
        return f"## No change\n\n{runs}: {what}."
    title = comparison.verdict.capitalize()
    parts = [f"{word} in {_listed(names)}" for word, names in by_word.items() if names]
    return f"## {title}\n\n{runs}: the trained model is {'; '.join(parts)}."


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


def score_table(comparison: Comparison) -> str:
    """Return the accuracies, in percent, and what is said of their difference."""
    lines = [
        "| accuracy % | base | head | difference | images lost, won | p | |",
        "|---|---|---|---|---|---|---|",
    ]
    for score in comparison.scores:
        cells = [
            score.name,
            _with_interval(score.base, score.base_interval),
            _with_interval(score.head, score.head_interval),
        ]
        if score.difference is None:
            cells += ["", "", ""]
        else:
            one = score.difference
            cells.append(f"{100 * one.change:+.2f} ({100 * one.low:+.2f} to {100 * one.high:+.2f})")
            cells.append("not known" if one.lost is None else f"{one.lost}, {one.won}")
            cells.append(_shown_p(score.p))
        lines.append(f"| {' | '.join([*cells, f'**{score.verdict}**'])} |")
    return "\n".join(lines)


def _how_tested(scores: list[Score]) -> str:
    kinds = {None if score.difference is None else score.difference.lost is not None for score in scores}
    if kinds == {True}:
        how = "exact McNemar test over the images that differ, and Bonett and Price's interval"
    elif kinds == {False}:
        how = "Fisher's exact test and Newcombe's interval, as if of different images: they see less"
    else:
        return "In brackets: 95 % (Wilson)."
    return f"In brackets: 95 %, each by itself (Wilson; the difference: {how}). p is Holm's, for all three."


def _seeds(comparison: Comparison) -> Iterator[str]:
    if same_configuration(comparison.base, comparison.head):
        return
    runs = {"base": comparison.base, "head": comparison.head}
    for name, run in runs.items():
        if len(run.seeds) > 1:
            joint = [100 * scores["joint"] for scores in run.seeds.values()]
            yield f"- {name} over {len(joint)} seeds: joint {mean(joint):.2f} ± {stdev(joint):.2f} %"
    if comparison.beats is not None:
        seeds = len(comparison.base.seeds.keys() & comparison.head.seeds.keys())
        yield f"- P(head beats base) = {comparison.beats:.2f}, joint accuracy, {seeds} paired seeds"
    else:
        yield (
            "- These are two trained models, one run each: nothing is said of the two configurations. To learn that, "
            "run `python -m studies.seeds --names default --seeds 5` on both branches and commit `studies/seeds.csv`."
        )


def _classes(comparison: Comparison) -> Iterator[str]:
    if comparison.scores[0].difference is None or comparison.scores[0].difference.lost is None:
        return
    if not comparison.classes:
        if len(comparison.lost) + len(comparison.won):
            yield "No class changed beyond noise, in recall or precision (Holm, for all looked at)."
        return
    yield "Classes that changed beyond noise (Holm, for all looked at):"
    yield ""
    yield "| class | | base % | head % | p |"
    yield "|---|---|---|---|---|"
    for one in comparison.classes:
        base, head = f"{100 * one.base:.2f}", f"{100 * one.head:.2f}"
        yield f"| {one.answer} {one.label} | {one.figure} | {base} | {head} | {_shown_p(one.p)} |"


def _cost(comparison: Comparison) -> str:
    parts = []
    for name, of in COSTS.items():
        base, head = of(comparison.base), of(comparison.head)
        if base != head:
            parts.append(f"{name} {_shown(base)} → {_shown(head)}")
    if comparison.base.machines != comparison.head.machines and comparison.base.seeds and comparison.head.seeds:
        parts[-1] += ", not on the same machine"
    return f"Cost: {'; '.join(parts)}." if parts else "Cost: unchanged."


def _other_figures(comparison: Comparison) -> Iterator[str]:
    base, head = comparison.base, comparison.head
    said = {f"{score.name}.accuracy" for score in comparison.scores} | {"weights", "flop_per_image"}
    differing = [key for key in {**base.metrics, **head.metrics} if base.metrics.get(key) != head.metrics.get(key)]
    rows = [(key, base.metrics.get(key), head.metrics.get(key)) for key in differing if key not in said]
    if rows:
        yield "<details><summary>Other figures that differ, untested</summary>"
        yield ""
        yield "| | base | head |"
        yield "|---|---|---|"
        for key, before, after in rows:
            yield f"| {key} | {_shown(before)} | {_shown(after)} |"
        yield ""
        yield "</details>"


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Return all that the report says, for programs; accuracies and p-values in 0-1, images by their place in MNIST."""
    return {
        "base": comparison.base.name,
        "head": comparison.head.name,
        "verdict": comparison.verdict,
        "changed": comparison.changed,
        "scores": {
            score.name: {
                "base": score.base,
                "head": score.head,
                "base_interval": score.base_interval,
                "head_interval": score.head_interval,
                "verdict": score.verdict,
                "p": score.p,
                "difference": None if score.difference is None else score.difference.change,
                "interval": None if score.difference is None else (score.difference.low, score.difference.high),
                "lost": None if score.difference is None else score.difference.lost,
                "won": None if score.difference is None else score.difference.won,
            }
            for score in comparison.scores
        },
        "classes": [vars(one) for one in comparison.classes],
        "images_lost": comparison.lost.tolist(),
        "images_won": comparison.won.tolist(),
        "probability_head_beats_base": comparison.beats,
        "notes": comparison.notes,
    }


def _with_interval(value: float, interval: tuple[float, float]) -> str:
    return f"{100 * value:.2f} ({100 * interval[0]:.2f} to {100 * interval[1]:.2f})"


def _shown_p(p: float | None) -> str:
    return "" if p is None else "< 0.0001" if p < 0.0001 else f"{p:.4f}" if p < 0.1 else f"{p:.2f}"


def _shown(value: float | None) -> str:
    return "not recorded" if value is None else f"{value:,}"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
