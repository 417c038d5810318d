"""Typed, strict parameters: the dataclass of a group says what each of its keys may be.

A group's dataclass lies in the folder that reads it, and is named like the group: `Train` for `train`.
"""

import difflib
import math
import re
from collections.abc import Callable, Collection
from dataclasses import field, fields
from typing import Any, TypeVar

from digitsum.core.errors import DigitsumError
from digitsum.core.files import shorten

T = TypeVar("T")

# --- What a value may be -------------------------------------------------------------------------------------


def whole(at_least: int, at_most: int) -> Any:
    """Declare a parameter that is a whole number."""
    return _parameter(
        lambda value: type(value) is int and at_least <= value <= at_most,
        f"a whole number of at least {at_least} and at most {at_most:,}",
    )


def seed() -> Any:
    """Declare a parameter that seeds random numbers: 32 bits, which every generator takes."""
    return whole(at_least=0, at_most=2**32 - 1)


def number(
    *, at_least: float = -math.inf, above: float = -math.inf, below: float = math.inf, at_most: float = math.inf
) -> Any:
    """Declare a parameter that is a real number between two limits; a whole number will do."""
    if math.isinf(max(at_least, above)) or math.isinf(min(below, at_most)):
        raise ValueError("a parameter needs a lower and an upper limit")
    limits = {"of at least": at_least, "above": above, "below": below, "at most": at_most}
    shown = " and ".join(f"{word} {limit:,g}" for word, limit in limits.items() if math.isfinite(limit))
    return _parameter(
        # NaN fails every comparison.
        lambda value: type(value) in (int, float) and at_least <= value <= at_most and above < value < below,
        f"a number {shown}",
    )


def choice(*options: str) -> Any:
    """Declare a parameter that is one of the named options."""
    return _parameter(lambda value: value in options, "one of " + ", ".join(options))


def flag() -> Any:
    """Declare a parameter that is true or false."""
    return _parameter(lambda value: type(value) is bool, "true or false")


def name() -> Any:
    """Declare a parameter that names something; the code that owns the names checks it."""
    return _parameter(lambda value: isinstance(value, str) and value != "", "a name")


def sha256() -> Any:
    """Declare a parameter that is a SHA-256 digest in hexadecimal."""
    return _parameter(
        lambda value: isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None,
        "a SHA-256 digest: 64 digits 0-9 a-f",
    )


def neutral(value: Any, parameter: Any) -> Any:
    """Declare a new `parameter`, and the value with which everything is as it was before there was such a parameter.

    What was measured before then still counts, see `settings_digest`.
    """
    return field(metadata={**parameter.metadata, "neutral": value})


def _parameter(accepts: Callable[[Any], bool], expected: str) -> Any:
    return field(metadata={"accepts": accepts, "expected": expected})


# --- Reading them --------------------------------------------------------------------------------------------


def to_group(kind: type[T], values: dict[str, Any]) -> T:
    """Return the group `kind`, a frozen dataclass, from the `values` of params.yaml.

    Raises DigitsumError, one line that names key, value and what was expected, if a key is unknown, missing or wrong.
    """
    group = kind.__name__.lower()
    known = {field_.name: field_ for field_ in fields(kind)}  # type: ignore[arg-type]
    given = values.get(group, {})
    if not isinstance(given, dict):
        raise DigitsumError(f"params.yaml: {group} is {shorten(given)}, expected keys with values")
    for key in given:
        if key not in known:
            raise DigitsumError(f"params.yaml: {group}.{key} is not a parameter; remove it{or_rename(key, known)}")
    for key, field_ in known.items():
        found = f"is {shorten(given[key])}" if key in given else "is missing"
        if key not in given or not field_.metadata["accepts"](given[key]):
            raise DigitsumError(f"params.yaml: {group}.{key} {found}, expected {field_.metadata['expected']}")
    return kind(**given)


def check_choice(key: str, value: str, options: Collection[str]) -> None:
    """Raise DigitsumError unless `value`, read from the parameter `key`, is one of `options`."""
    if value not in options:
        raise DigitsumError(f"params.yaml: {key} is {shorten(value)}, expected one of {', '.join(options)}")


def or_rename(key: str, known: Collection[str]) -> str:
    """Return the end of an error message that names the key of `known` that is most like `key`, if one is."""
    near = difflib.get_close_matches(key, known, n=1)
    return f", or fix its spelling (did you mean {near[0]}?)" if near else ""
