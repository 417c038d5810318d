"""Recipes: params.yaml with a few lines changed, such as recipes/best; what `make best` trains."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from digitsum.core.errors import DigitsumError
from digitsum.core.files import leaves, parse_yaml, read_yaml
from digitsum.core.numerics import Compute
from digitsum.core.params import or_rename, to_group
from digitsum.mnist.idx import RawMnist, expected_digests, read_raw
from digitsum.mnist.params import Mnist
from digitsum.model.params import Model
from digitsum.pairing.params import Pair
from digitsum.report.settings import settings_digest
from digitsum.training.params import Train, TrainingParams


@dataclass(frozen=True)
class Recipe:
    """All parameters that a trained network depends on, those of its data too."""

    pair: Pair
    training: TrainingParams

    @property
    def digest(self) -> str:
        """A short digest to know measured rows by: of all parameters but the seed of training and the numerics."""
        model, train, compute = self.training.model, self.training.train, self.training.compute
        groups = {"pair": asdict(self.pair), "model": asdict(model), "train": asdict(train), "compute": asdict(compute)}
        return settings_digest(leaves(groups))


def read_values(folder: Path = Path(), changes: Iterable[str] = ()) -> dict[str, Any]:
    """Return the values in `folder`/params.yaml, with `changes` such as "train.lr=0.1", as `dvc exp run -S` sets them.

    Raises DigitsumError if a change does not name a parameter that is there.
    """
    values = read_yaml(folder / "params.yaml")
    for change in changes:
        key, _, text = change.partition("=")
        group, _, leaf = key.partition(".")
        if not (isinstance(values.get(group), dict) and leaf in values[group]):
            raise DigitsumError(f"{change} does not name a parameter of params.yaml{or_rename(key, leaves(values))}")
        values[group][leaf] = parse_yaml(f"value: {text}", change)["value"]
    return values


def read_mnist() -> RawMnist:
    """Return MNIST as the stage fetch has brought it here. Raises DigitsumError if a file is missing or wrong."""
    return read_raw(Path("data/raw"), expected_digests(to_group(Mnist, read_yaml(Path("params.yaml")))))


def read_recipe(changes: Iterable[str] = (), folder: Path = Path()) -> Recipe:
    """Return the parameters of `folder`/params.yaml, with `changes` as `dvc exp run -S` would set them."""
    values = read_values(folder, changes)
    training = TrainingParams(to_group(Model, values), to_group(Train, values), to_group(Compute, values))
    return Recipe(to_group(Pair, values), training)


def read_recipes(folder: Path = Path()) -> dict[str, Recipe]:
    """Return all recipes by name: the default, then one for each file in `folder`/recipes."""
    recipes = {"default": read_recipe(folder=folder)}
    for file in sorted((folder / "recipes").iterdir()):
        recipes[file.name] = read_recipe(file.read_text().split(), folder)
    return recipes
