"""The page of results: each claim with its value, the best that is published, the command and the cost: `make results`.

Values come from the files that the commands write. What others state stands here, with its source.
"""

import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from digitsum.report.tables import markdown_table
from studies.mnist_add.compare import best_published
from tools.tables import marks, mean_and_deviation, read_rows, replace_between, summary_in_percent

PAGE, MARKS = Path("docs/results.md"), marks("results", "make results")
GITHUB = "https://github.com"
MATUZAS = f"99.75 ± 0.03 % (20 networks), [Matuzas77]({GITHUB}/Matuzas77/MNIST-0.17)"
CDEOTTE = f"99.64 ± 0.05 % (1,500 networks), [cdeotte]({GITHUB}/cdeotte/MNIST-CNN-99.75)"
SAME_TASK = f"99.54 % (one run), [ChaitanyaC22]({GITHUB}/ChaitanyaC22/Multi-Input-Multi-Output-MNIST)"
FEW_WEIGHTS = f"99.07 % with 4,862 (one run), [ruslangrimov]({GITHUB}/ruslangrimov/mnist-minimal-model)"
FEWEST_WEIGHTS = (
    "98.76 ± 0.11 % with 997 (223 runs), 99.03 % with 697 (best of 700 runs), both chosen on the test split, "
    f"[JoshWarn]({GITHUB}/JoshWarn/Parameter-Efficient-MNIST)"
)
TUOMASO = f"99.04 ± 0.07 % in 0.76 s on a GTX 1660 Ti, [tuomaso]({GITHUB}/tuomaso/train_mnist_fast)"
BURN = f"1,866 KB, [burn]({GITHUB}/tracel-ai/burn)"
NONE = "none known"
UNCITED = "none in the sources compared"
PEERS = {"tuomaso": "tuomaso", "pytorch_examples": "pytorch/examples", "cdeotte": "cdeotte"}


class Claim(NamedTuple):
    """A row of the page."""

    what: str
    here: str
    published: str
    command: str
    minutes: str
    measured_on: str


def main() -> None:
    """Write the table."""
    replace_between(PAGE, MARKS, table())


def table() -> str:
    """Return the table of all claims."""
    headers = ["what", "here", "best published", "command", "minutes", "measured on"]
    return markdown_table(headers, [list(claim) for claim in claims()])


def claims() -> Iterator[Claim]:
    """Yield the claims in the order of the page."""
    yield of_recipe("best", "Digit and sum, one network, most accurate", MATUZAS + ", the digit")
    yield of_recipe("default", "Digit and sum, the default", SAME_TASK)
    yield of_recipe("default", "The digit, the default", CDEOTTE)
    yield of_recipe("tiny", "Few weights", FEW_WEIGHTS)
    yield of_recipe("minimal", "99 % with the fewest weights", FEWEST_WEIGHTS)
    yield of_recipe("quick", "99 % in seconds", TUOMASO)
    yield of_recipe("brisk", "99.5 % in three epochs", NONE)
    yield from against_peers()
    yield from on_a_gpu()
    runs = seeds("default")
    calibration = mean_and_deviation([float(row["digit_calibration_error"]) for row in runs])
    here = f"{calibration} ({len(runs)} seeds)"
    yield of_recipe("default", "Calibration error of the digit, %", NONE)._replace(here=here)
    yield from of_studies()
    yield from of_exports()


def seeds(name: str) -> list[dict[str, str]]:
    """Return the rows of `make seeds` for a recipe."""
    return [row for row in read_rows(Path("studies/seeds/seeds.csv")) if row["name"] == name]


def of_recipe(name: str, what: str, published: str) -> Claim:
    """Return the claim of a recipe's accuracy."""
    runs = seeds(name)
    accuracy = mean_and_deviation([float(row["joint"]) for row in runs])
    here = f"{accuracy} % ({len(runs)} seeds, {int(runs[0]['weights']):,} weights)"
    minutes = statistics.median(float(row["wall_seconds"]) for row in runs) / 60
    shown = f"{minutes:.1g}" if minutes < 1 else f"{minutes:.0f}"
    command = "`make repro`" if name == "default" else f"`make {name}`"
    return Claim(what, here, published, command, shown, hardware(runs[0]["machine"]))


def hardware(measured_on: str) -> str:
    """Return processor and cores, or the GPU, of a description by tools.tables.machine."""
    return ", ".join(measured_on.split(", ")[: 1 if "NVIDIA" in measured_on else 2])


def read(path: str) -> Any:
    """Return the content of a JSON file."""
    return json.loads(Path(path).read_text())


def against_peers() -> Iterator[Claim]:
    """Yield the time to each goal beside peers in one process, that of the recipe first."""
    bench = read("benchmarks/results.json")
    for title, goal in bench["goals"].items():
        ours, *others = ((name, of["median"]) for name, of in goal["cpu_seconds"].items())
        shown = [f"{ours[1]:.1f} CPU-seconds"]
        for name, seconds in others:
            if name in PEERS:
                missed = "" if goal["reached"][name] else "not reached in "
                shown.append(f"{PEERS[name]} {missed}{seconds:,.0f}")
        minutes, where = str(bench["minutes"]), hardware(bench["measured_on"])
        yield Claim(f"{title} beside its peers", "; ".join(shown), "measured here", "`make bench`", minutes, where)


def on_a_gpu() -> Iterator[Claim]:
    """Yield what `make gpu` has measured."""
    gpu = read("benchmarks/gpu.json")
    card = hardware(gpu["measured_on"])
    for what, part, peer in (
        (
            "99 % in seconds, on a GPU",
            "to_99",
            f"{statistics.median(gpu['to_99']['tuomaso']['seconds']):.2f} s for tuomaso, measured here",
        ),
        ("99.5 % in seconds, on a GPU", "to_99.5", NONE),
        ("The default, on a GPU", "default", NONE),
        ("The most accurate, on a GPU", "best", NONE),
    ):
        run = gpu[part]["float32"]
        seconds, runs = statistics.median(run["seconds"]), len(run["digit"])
        here = f"{mean_and_deviation(run['digit'])} % ({runs} seed{'s' if runs > 1 else ''}) in {seconds:.2g} s"
        yield Claim(what, here, peer, "`make gpu`", f"{seconds / 60:.2g}", card)
    repeated = gpu["operators"]
    here = f"{repeated['operators'] - len(repeated['different'])} of {repeated['operators']} operators"
    yield Claim("The same bits again, on a GPU", here, NONE, "`make gpu`", "1", card)


def of_studies() -> Iterator[Claim]:
    """Yield the results of studies."""
    fusions = read("studies/fusions/comparison.json")["fusions"]
    accuracy = {name: 100 * of["all_numbers_joint"]["mean"] for name, of in fusions.items() if name != "sums_alone"}
    exact = accuracy.pop("shift")
    here = f"{exact:.2f} %; the best learned one {max(accuracy.values()):.2f} %"
    yield Claim("Fusion `shift`, all ten numbers", here, NONE, "`make studies`", "hours", "any x86-64 with AVX2")
    yield from of_sums()
    means = read("studies/other_hands/results.json")["mean"]
    here = "; ".join(f"{source} {100 * found['correct']:.1f} %" for source, found in means.items())
    yield Claim("Pictures that are not MNIST's", here, NONE, "`make studies`", "10", "any x86-64 with AVX2")


def of_sums() -> Iterator[Claim]:
    """Yield what the study mnist_add reads from sums alone, for each number of digits."""
    compared = read("studies/mnist_add/comparison.json")
    published = read_rows(Path("studies/mnist_add/published.csv"))
    measured = {row["variant"]: row for row in read_rows(Path("benchmarks/mnist_add.csv"))}
    for name, of in sorted(compared.items(), key=lambda item: item[1]["num_digits"]):
        if name.startswith("large"):
            what = f"Sums of two numbers of {of['num_digits']} digit{'s' * (of['num_digits'] > 1)}, all of them images"
            here = f"{summary_in_percent(of['sums'])} % ({of['seeds']} seeds)"
            minutes = f"{float(measured[name]['cpu_seconds']) / 60:.0f}"
            command, machine = "`cd studies/mnist_add && dvc repro`", hardware(measured[name]["machine"])
            best = best_published(published, of["num_digits"])
            states = f"{best['sums']} %, [{best['method']}]({best['source']})" if best else UNCITED
            yield Claim(what, here, states, command, minutes, machine)


def of_exports() -> Iterator[Claim]:
    """Yield the sizes of what `export` writes, and the answers that differ."""
    export = read("metrics/export.json")
    for what, name, published in (("Model as ONNX", "onnx", NONE), ("Web page that draws and answers", "page", BURN)):
        here = f"{export[name]['bytes'] / 1000:.0f} KB, {export[name]['answers_changed']} answers of 10,000 changed"
        yield Claim(what, here, published, "`make repro`", "0.3", "any x86-64 with AVX2")


if __name__ == "__main__":
    main()
