"""The command `digitsum`.

digitsum predict FILE... --number N   # digit and sum for pictures
digitsum info FILE              # what a model, a split or a checkpoint holds, and its identity
digitsum report [BASE [HEAD]]   # what changed between two revisions, and whether it is more than noise
digitsum verify [--repair]      # does every file here and in DVC's cache hold the bytes that dvc.lock records?
"""

import argparse
import json
import sys
from pathlib import Path

import digitsum
from digitsum.core.errors import DigitsumError, one_line_errors, printable

GOT_WORSE = NOT_SURE = 3  # exit status, told from 1 for an error


def main() -> None:
    """Run the command line; a foreseen failure prints one line and exits with 1."""
    with one_line_errors():
        parser = argparse.ArgumentParser(prog="digitsum", description="Digit and sum from an MNIST image and a number.")
        parser.add_argument("--version", action="version", version=f"digitsum {digitsum.__version__}")
        commands = parser.add_subparsers(dest="command", required=True)
        predict_parser = commands.add_parser("predict", help="tell digit and sum for pictures of any kind")
        predict_parser.add_argument(
            "files", nargs="+", metavar="FILE", help="picture, folder of pictures, or - for stdin"
        )
        predict_parser.add_argument(
            "--number", type=int, choices=range(10), required=True, help="the second input, 0-9"
        )
        predict_parser.add_argument(
            "--model", type=Path, default=Path("models/digitsum.safetensors"), help="(default: %(default)s)"
        )
        predict_parser.add_argument(
            "--json", action="store_true", help="print a JSON object a line, with probabilities"
        )
        predict_parser.add_argument("--show", type=Path, metavar="PNG", help="write a sheet of what the network saw")
        info_parser = commands.add_parser("info", help="show what a file of tensors holds, and its identity")
        info_parser.add_argument("file", type=Path, help="such as models/digitsum.safetensors")
        report_parser = commands.add_parser("report", help="compare two runs, in Markdown; tell differences from noise")
        report_parser.add_argument(
            "base", nargs="?", help="revision or experiment (default: where the default branch was left)"
        )
        report_parser.add_argument("head", nargs="?", default="workspace", help="the same (default: the files here)")
        report_parser.add_argument("--output", type=Path, help="folder for report.md, figures and report.json")
        report_parser.add_argument(
            "--fail-on", choices=["worse"], help=f"exit with {GOT_WORSE} if digit, sum or joint got worse beyond noise"
        )
        verify_parser = commands.add_parser("verify", help="read all outputs and their copies in DVC's cache")
        verify_parser.add_argument("--repair", action="store_true", help="bring back what is damaged or missing")
        options = parser.parse_args()
        if options.command == "predict":
            predict(options.files, options.number, options.model, options.json, options.show)
        elif options.command == "info":
            info(options.file)
        elif options.command == "verify":
            verify(options.repair)
        else:
            report(options.base, options.head, options.output, options.fail_on == "worse")


def predict(names: list[str], number: int, model: Path, as_json: bool, sheet: Path | None) -> None:
    """Print what a model says of pictures; exit with NOT_SURE unless it is sure of each.

    A picture that cannot be read is named, the others are answered, and the exit status is 1.

    Args:
        names: files, folders of pictures, "-" for standard input.
        number: the second input.
        model: the file of the network.
        as_json: print a JSON object for each picture, with probabilities.
        sheet: PNG to write, with each picture and what the network saw of it; None for none.
    """
    from tqdm import tqdm

    from digitsum.model.network import load_model
    from digitsum.picture import pictures_in, read_picture
    from digitsum.prediction import as_dict, as_text, predict
    from digitsum.sheet import MOST, Cell, refuse_other_files, thumbnail, write_sheet

    if sheet:
        refuse_other_files(sheet)
    network, files = load_model(model), pictures_in(names)
    cells: list[Cell] = []
    unread, all_sure = 0, True
    for file in tqdm(files, unit=" pictures", leave=False, disable=None if len(files) > 1 else True):
        name = printable(str(file or "standard input"))
        try:
            picture = read_picture(file)
        except DigitsumError as error:
            unread += 1
            if as_json:
                tqdm.write(json.dumps({"file": name, "error": str(error)}))
            else:
                tqdm.write(f"error: {error}", file=sys.stderr)
            continue
        found = predict(picture, number, network)
        all_sure = all_sure and found.verdict == "sure"
        tqdm.write(json.dumps({"file": name, **as_dict(found)}) if as_json else f"{name}: {as_text(found)}")
        if sheet and len(cells) < MOST:
            cells.append(Cell(thumbnail(picture), found.image, Path(name).name, as_text(found)))
    if sheet and cells:
        write_sheet(sheet, cells)
    if unread:
        raise DigitsumError(f"{unread} of {len(files)} pictures could not be read: see above")
    if not all_sure:
        sys.stdout.flush()
        sys.exit(NOT_SURE)


def verify(repair: bool) -> None:
    """Check, or repair and check, what dvc.lock records. Raises DigitsumError if a file is damaged or missing."""
    from digitsum import verification

    if repair:
        verification.repair()
    verification.verify()


def info(path: Path) -> None:
    """Print what a file of tensors holds: its config, the type and shape of each tensor, and its identity.

    Equal identities mean equal content, whatever the bytes of the file. Raises DigitsumError if it cannot be read.
    """
    from digitsum.data.tensors import identity, load_tensors

    tensors, config = load_tensors(path)
    if "identity" in {*tensors, *config}:
        raise DigitsumError(f"{path} gives a value of its own the name identity; digitsum made no such file")
    for key, value in config.items():
        shown = ", ".join(f"{name} {part}" for name, part in value.items()) if isinstance(value, dict) else value
        print(printable(f"{key}: {shown}"))  # or a line end in a value could show another identity
    for name, tensor in tensors.items():
        print(printable(f"{name}: {str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"))
    print(f"identity: {identity(tensors, config)}")


def report(base: str | None, head: str, output: Path | None, fail_on_worse: bool) -> None:
    """Compare two runs; print the report, or write it and its figures.

    Args:
        base: a revision or experiment; None for the commit where this branch left the default branch
        head: the same, or "workspace"
        output: the folder to write to; None to print
        fail_on_worse: exit with GOT_WORSE, after the report, if head is worse

    Raises DigitsumError if a revision cannot be read or, with `fail_on_worse`, if no verdict can be given.
    """
    from digitsum.report.compare import UNKNOWN, WORSE, compare
    from digitsum.report.files import merge_base
    from digitsum.report.markdown import to_markdown
    from digitsum.report.revisions import read_run

    comparison = compare(read_run(base or merge_base()), read_run(head))
    if output is None:
        print(to_markdown(comparison, {}), end="")
    else:
        from digitsum.report.folder import write_report

        write_report(output, comparison)
        print(f"{output / 'report.md'}: {comparison.verdict}")
    if fail_on_worse and comparison.verdict == UNKNOWN:
        raise DigitsumError(f"--fail-on worse: {' '.join(comparison.notes)}")
    if fail_on_worse and comparison.verdict == WORSE:
        sys.stdout.flush()
        sys.exit(GOT_WORSE)
