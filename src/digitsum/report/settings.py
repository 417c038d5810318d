"""A digest of the parameters of data and training, to know measured rows and recorded runs by."""

import hashlib
import json
from dataclasses import fields
from typing import Any

from digitsum.core.numerics import Compute
from digitsum.model.params import Model
from digitsum.pairing.params import Pair
from digitsum.training.params import Train

GROUPS: dict[str, type] = {"pair": Pair, "model": Model, "train": Train, "compute": Compute}
# These decide on bits and seconds, not on what is trained. train.numerics: until November 2026.
LEFT_OUT = ("train.seed", "train.numerics", "compute.numerics")


def settings_digest(params: dict[str, Any]) -> str:
    """Return a short digest of parameters by full name, such as "train.lr"; those of other groups do not count.

    One with its `neutral` value does not count either: the digest is the one from before the parameter was added.
    """
    neutral = {
        f"{name}.{one.name}": one.metadata.get("neutral") for name, kind in GROUPS.items() for one in fields(kind)
    }
    kept = {
        key: value
        for key, value in sorted(params.items())
        if key.split(".")[0] in GROUPS and key not in LEFT_OUT and value != neutral.get(key)
    }
    return hashlib.sha256(json.dumps(kept, default=str).encode()).hexdigest()[:12]
