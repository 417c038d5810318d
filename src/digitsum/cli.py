"""The command `digitsum`.

digitsum info FILE    # what a model, a split or a checkpoint holds, and its identity
"""

import argparse
import os
import sys
from pathlib import Path

from digitsum.errors import DigitsumError
from digitsum.tensors import identity, load_tensors


def main() -> None:
    """Run the command line; a foreseen failure prints one line and exits with 1."""
    parser = argparse.ArgumentParser(prog="digitsum", description="Digit and sum from an MNIST image and a number.")
    commands = parser.add_subparsers(dest="command", required=True)
    info_parser = commands.add_parser("info", help="show what a file of tensors holds, and its identity")
    info_parser.add_argument("file", type=Path, help="such as models/digitsum.safetensors")
    options = parser.parse_args()
    try:
        info(options.file)
        sys.stdout.flush()
    except DigitsumError as error:
        sys.exit(f"error: {error}")
    except BrokenPipeError:  # `| head` has read enough; nothing more shall be written, at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def info(path: Path) -> None:
    """Print the config in a file of tensors, each tensor's type and shape, and the identity of it all.

    Equal identities mean equal content, wherever and however it is stored. Raises DigitsumError if it cannot be read.
    """
    tensors, config = load_tensors(path)
    for key, value in config.items():
        shown = ", ".join(f"{name} {one}" for name, one in value.items()) if isinstance(value, dict) else value
        print(f"{key}: {shown}")
    for name, tensor in tensors.items():
        print(f"{name}: {str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}")
    print(f"identity: {identity(tensors, config)}")
