"""What only a GPU can show: the same bits again, seconds to 99 % and 99.5 %, time and accuracy of the recipes.

    make gpu                                            # at most 8 minutes; needs data/raw of `make repro`
    python -m benchmarks gpu --device cpu               # a few steps of everything on the CPU; writes nothing

Writes gpu.json after each part, and the tables in benchmarks/README.md at the end. A clock runs from data in the GPU's
memory to a trained network. Scoring the test split is not timed, and the first run is stated apart: it loads kernels,
and compiles or records them.
"""

import argparse
import contextlib
import dataclasses
import functools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from benchmarks.peers import Classifier, tuomaso
from benchmarks.speed import score
from digitsum.core.errors import DigitsumError
from digitsum.core.files import write_json
from digitsum.core.numerics import Compute, configure_torch
from digitsum.data.splits import Split
from digitsum.data.tensors import identity
from digitsum.mnist.idx import RawMnist
from digitsum.model.network import Network
from digitsum.pairing.pairs import make_splits
from digitsum.report.tables import markdown_table
from digitsum.training import shards
from digitsum.training.devices import set_precision
from digitsum.training.loop import train_network
from tools.recipes import Recipe, read_mnist, read_recipe, read_recipes
from tools.tables import machine, marks, mean_and_deviation, median_and_range, replace_between

RESULTS, README = Path("benchmarks/gpu.json"), Path("benchmarks/README.md")
MARKS = marks("gpu", "make gpu")
REPEATS = 20  # of each operator
TRUNKS = ("large", "pooled", "strided", "small", "tiny", "minimal")
PRECISIONS = ("float32", "tf32", "bfloat16")
VARIANTS: dict[str, tuple[bool, dict[str, Any]]] = {  # whether CUDA graphs replay the steps; parameters of `train`
    **{precision: (True, {"precision": precision}) for precision in PRECISIONS},
    "float32, without CUDA graphs": (False, {}),
}
COMPILED: dict[str, tuple[bool, dict[str, Any]]] = {"float32, compiled": (False, {"compile": True})}  # takes a minute
AS_USED, UNRECORDED = VARIANTS["float32"], "float32, without CUDA graphs"
RECIPES = (  # title, part, goal, in the order of the table
    ("`quick`", "to_99", 0.99),
    ("`brisk`", "to_99.5", 0.995),
    ("`default`", "default", None),
    ("`best`", "best", None),
)
PATIENCE = 20  # seconds after which no further seed of a variant is begun


class Data:
    """MNIST, and what every part of the benchmark asks of it. `short`, on a CPU: a few steps, one seed."""

    def __init__(self, device: torch.device, numerics: str) -> None:
        """Read MNIST."""
        self.device, self.compute, self.short = device, Compute(numerics), device.type == "cpu"
        self.mnist: RawMnist = read_mnist()

    def seeds(self, seeds: int) -> int:
        """Return how many seeds to train."""
        return 1 if self.short else seeds

    def variants(self, names: Sequence[str] = tuple(VARIANTS)) -> dict[str, tuple[bool, dict[str, Any]]]:
        """Return the variants with these names that the device can run."""
        chosen = {name: (VARIANTS | COMPILED)[name] for name in names}
        return {name: of for name, of in chosen.items() if self.device.type == "cuda" or of == AS_USED}

    def splits(self, recipe: Recipe, training_size: int = 0) -> dict[str, Split]:
        """Return the splits of a recipe, on the device."""
        changes = {"training_size": 300, "validation_size": 50} if self.short else {"training_size": training_size}
        pair = dataclasses.replace(recipe.pair, **changes)
        return {name: split.to(self.device) for name, split in make_splits(self.mnist, pair).items()}

    def train(self, recipe: Recipe, splits: dict[str, Split], seed: int = 0, graphs: bool = True) -> Network:
        """Train a network as the stage train does, on the device. graphs: whether CUDA graphs replay the steps."""
        train = dataclasses.replace(recipe.training.train, seed=seed, device=self.device.type)
        if self.short:
            train = dataclasses.replace(train, epochs=1, clean_epochs=0, batch_size=25, compile=False)
        params = dataclasses.replace(recipe.training, train=train, compute=self.compute)
        one_by_one = mock.patch.object(shards, "Recorder", lambda buffers: None)
        with contextlib.nullcontext() if graphs else one_by_one:
            network, _ = train_network(params, splits["train"], splits["validation"], self.device)
        return network.to(self.device)


def main(arguments: Sequence[str], numerics: str) -> None:
    """Run one part after another; write the results so far after each, and the tables when all are there."""
    parts: dict[str, Callable[[Data], Any]] = {
        "operators": operators,
        "trainings": trainings,
        "to_99": to_99,
        "to_99.5": lambda data: variants(data, read_recipes()["brisk"], 5),
        "default": lambda data: variants(data, read_recipes()["default"], 5, ("float32", UNRECORDED)),
        "best": lambda data: variants(data, read_recipes()["best"], 1, ("float32",)),
    }
    parser = argparse.ArgumentParser(prog="python -m benchmarks gpu", description="Measure what a GPU can do.")
    parser.add_argument(
        "--device", default="cuda", choices=("cuda", "cpu"), help="(default cuda); cpu: only try it, write nothing"
    )
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts), help="(default all)")
    options = parser.parse_args(arguments)
    configure_torch(Compute(numerics))
    if options.device == "cuda" and not torch.cuda.is_available():
        raise DigitsumError(
            f"PyTorch {torch.__version__} finds no CUDA device here; `python -m benchmarks gpu --device cpu` tries the "
            "program without one"
        )
    device = torch.device(options.device)
    data, measured_on = Data(device, numerics), machine(device)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if results.get("measured_on") != measured_on:
        results = {"measured_on": measured_on}
    for name in options.parts:
        start = time.perf_counter()
        results[name] = parts[name](data)
        print(f"{name}, {time.perf_counter() - start:.0f} s: {json.dumps(results[name])}", flush=True)
        if not data.short:
            write_json(RESULTS, results)
    if not data.short and results.keys() >= parts.keys():
        replace_between(README, MARKS, tables(results))


# --- The same bits ---------------------------------------------------------------------------------------------------


class RepeatedOperators(TorchDispatchMode):
    """Run every operator REPEATS times more on copies of its inputs; compare all bits that it returns or changes.

    Only the first time with inputs of these shapes and types. different: whether the operator had other bits, by its
    name, shapes and types.
    """

    def __init__(self) -> None:
        """Begin with no operators."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.different: dict[tuple[str, str], bool] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run `function` on its inputs, and on copies."""
        inputs = (args, kwargs or {})
        shapes = [(leaf.shape, leaf.stride(), leaf.dtype) for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)]
        name, key = function.overloadpacket.__name__, (str(function), str(shapes))
        if (
            not shapes
            or key in self.different
            or name.startswith(("empty", "new_empty", "rand", "uniform", "_local_scalar"))
        ):
            return function(*inputs[0], **inputs[1])
        copies = [tree_map(copied, inputs) for _ in range(REPEATS)]
        outputs = function(*inputs[0], **inputs[1])
        repeats = [(function(*copy[0], **copy[1]), copy) for copy in copies]
        self.different[key] = not all(same_bits((outputs, inputs), repeat) for repeat in repeats)
        return outputs


def copied(leaf: Any) -> Any:
    """Return a copy of a tensor, with its strides; anything else as it is."""
    return leaf.detach().clone() if isinstance(leaf, Tensor) else leaf


def same_bits(one: Any, other: Any) -> bool:
    """Return whether all tensors in two trees of the same shape are equal."""
    pairs = zip(tree_leaves(one), tree_leaves(other), strict=True)
    return all(torch.equal(a, b) for a, b in pairs if isinstance(a, Tensor))


def operators(data: Data) -> dict[str, Any]:
    """Repeat the operators of training, in ten steps of every trunk and precision; name those with other bits."""
    different: dict[tuple[str, str], bool] = {}
    default = read_recipe()
    splits = data.splits(default, training_size=5 * default.training.train.batch_size)
    splits["validation"] = few(splits["validation"])
    for trunk in TRUNKS[-1:] if data.short else TRUNKS:
        for precision in PRECISIONS[:1] if data.short else PRECISIONS:
            recipe = read_recipe([f"model.trunk={trunk}", f"train.precision={precision}"])
            with RepeatedOperators() as repeated:
                data.train(with_train(recipe, epochs=2, clean_epochs=1), splits, graphs=False)
            for key, is_different in repeated.different.items():
                different[key] = different.get(key, False) or is_different
    names = {name for name, _ in different}
    others = sorted({name for (name, _), is_different in different.items() if is_different})
    return {"repeats": REPEATS, "operators": len(names), "shapes": len(different), "different": others}


def trainings(data: Data) -> dict[str, Any]:
    """Train the default for half an epoch twice with CUDA graphs and once without; return whether weights are equal."""
    same, splits = {}, data.splits(read_recipe())
    splits["validation"] = few(splits["validation"])
    for count in (4, 1):
        for precision in PRECISIONS[:1] if data.short else PRECISIONS:
            recipe = with_train(read_recipe(), epochs=0.5, clean_epochs=0, shards=count, precision=precision)
            trained = [data.train(recipe, splits, graphs=graphs) for graphs in (True, True, False)]
            same[f"{precision}, {count} shards"] = len({identity(of.state_dict(), {}) for of in trained}) == 1
    return same


def with_train(recipe: Recipe, **changes: Any) -> Recipe:
    """Return the recipe with other parameters of training."""
    train = dataclasses.replace(recipe.training.train, **changes)
    return dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, train=train))


def few(split: Split) -> Split:
    """Return the first 500 pairs of a split."""
    return dataclasses.replace(split, image_index=split.image_index[:500], numbers=split.numbers[:500])


# --- Seconds ---------------------------------------------------------------------------------------------------------


def to_99(data: Data) -> dict[str, Any]:
    """Time the recipe `quick` in every variant, and the peer tuomaso."""
    recipe = read_recipes()["quick"]
    test = data.splits(recipe)["test"]

    def peer(seed: int) -> Classifier:
        set_precision("tf32")  # which suits it best
        return next(tuomaso(data.mnist, seed, data.device))

    first = timed(peer, test, seeds=1)["seconds"][0]
    peers = {"tuomaso": {"first": first, **timed(peer, test, data.seeds(5))}}
    return peers | variants(data, recipe, 5, (*VARIANTS, *COMPILED))


def variants(data: Data, recipe: Recipe, seeds: int, names: Sequence[str] = tuple(VARIANTS)) -> dict[str, Any]:
    """Time the training of a recipe in every variant; of one that fails, return the error."""
    splits, batch = data.splits(recipe), recipe.training.train.batch_size
    # All shapes of the recipe in a few steps: full batches and the last one, with and without warps.
    few_pairs = data.splits(recipe, training_size=11 * batch + len(splits["train"]) % batch)
    measured: dict[str, Any] = {}
    for name, (graphs, changes) in data.variants(names).items():
        variant = with_train(recipe, **changes)
        clean_epochs = min(1, recipe.training.train.clean_epochs)
        try:
            start = time.perf_counter()
            data.train(with_train(variant, epochs=2, clean_epochs=clean_epochs), few_pairs, graphs=graphs)
            first = round(time.perf_counter() - start, 3)
            train = functools.partial(data.train, variant, splits, graphs=graphs)
            measured[name] = {"first": first, **timed(train, splits["test"], data.seeds(seeds))}
        except (DigitsumError, RuntimeError) as error:
            measured[name] = {"failed": str(error).strip().partition("\n")[0]}
        print(f"  {name}: {json.dumps(measured[name])}", flush=True)
    return measured


def timed(train: Callable[[int], Classifier], test: Split, seeds: int) -> dict[str, Any]:
    """Train with each seed; return the seconds, and the accuracies of digit and sum on the test split."""
    begin = time.perf_counter()
    seconds, scores = [], []
    for seed in range(seeds):
        if time.perf_counter() - begin > PATIENCE:
            break
        torch.set_deterministic_debug_mode("default")  # of all contestants only digitsum sets it
        start = clock(test.images.device)
        classifier = train(seed)
        seconds.append(round(clock(test.images.device) - start, 3))
        scores.append(score(classifier, test))
    return {"seconds": seconds, "digit": [digit for digit, _ in scores], "sum": [total for _, total in scores]}


def clock(device: torch.device) -> float:
    """Return the time, in seconds, when the device has done what it was asked to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


# --- Tables ----------------------------------------------------------------------------------------------------------


def tables(results: dict[str, Any]) -> str:
    """Return the tables of benchmarks/README.md for the content of gpu.json."""
    operators = results["operators"]
    bits = [
        ["{operators} operators, in {shapes} shapes".format(**operators), operators["different"]],
        *(
            [f"half an epoch of the default, {name}", [] if same else ["weights"]]
            for name, same in results["trainings"].items()
        ),
    ]
    rows = []
    for title, part, goal in RECIPES:
        for name, of in results[part].items():
            recipe = "" if name == "tuomaso" else title
            if "failed" in of:
                rows.append([recipe, name, f"failed: {of['failed']}"])
                continue
            reached = f"{sum(digit >= goal for digit in of['digit'])} of {len(of['digit'])}" if goal else ""
            seconds = median_and_range(of["seconds"], 2) if len(of["seconds"]) > 1 else f"{of['seconds'][0]:.2f}"
            rows.append([recipe, name, seconds, f"{of['first']:.1f}", mean_and_deviation(of["digit"]), reached])
    headers = ["recipe", "how", "seconds, median (range)", "first run, seconds", "digit %", "reached"]
    return "\n\n".join(
        [
            markdown_table(["repeated", "other bits"], [[what, ", ".join(others) or "none"] for what, others in bits]),
            markdown_table(headers, rows),
            f"Accuracy on the test split: mean ± standard deviation over seeds. Measured on: {results['measured_on']}.",
        ]
    )
