"""The dataclass of every group of params.yaml."""

from digitsum.core.numerics import Compute
from digitsum.evaluation.params import Evaluate
from digitsum.mnist.params import Fetch, Mnist
from digitsum.model.params import Model
from digitsum.pairing.params import Pair
from digitsum.training.params import Train

GROUPS = {group.__name__.lower(): group for group in (Mnist, Fetch, Pair, Model, Compute, Train, Evaluate)}
