"""Run a benchmark: `python -m benchmarks NAME`; `python -m benchmarks NAME --help` lists the options of one.

The environment is set before PyTorch is imported: see digitsum/core/numerics.py.
"""

import argparse
import importlib

from digitsum.core.errors import one_line_errors
from digitsum.core.numerics import set_environment

# The CPU's fastest, except where a study compares fusions with portable numerics.
NUMERICS = {
    "speed": "native",
    "profile_step": "native",
    "scaling": "native",
    "epoch_time": "portable",
    "held_out": "native",
    "gpu": "native",
    "mnist_add": "portable",
}


def main() -> None:
    """Run the benchmark that the command line names. A failure ends in one line and with exit code 1."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--numerics", choices=("native", "portable"), help="of the CPU; stands before NAME")
    parser.add_argument("name", choices=NUMERICS)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="options of the benchmark")
    options = parser.parse_args()
    numerics = options.numerics or NUMERICS[options.name]
    set_environment(numerics)
    with one_line_errors():
        importlib.import_module(f"benchmarks.{options.name}").main(options.arguments, numerics)


if __name__ == "__main__":
    main()
