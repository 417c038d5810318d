"""Files: written whole or not at all, with the same bytes from the same content; YAML as DVC reads it."""

import contextlib
import csv
import glob
import hashlib
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent

from digitsum.core.errors import DigitsumError

MAX_DEPTH = 20  # levels of nesting; libyaml overflows the C stack at about 10,000


def write_bytes(path: Path, *content: bytes | Iterable[Any]) -> None:
    """Write `content` to `path` atomically: whatever happens, `path` holds its old bytes or all the new ones.

    Content may come in parts: buffers of bytes.

    Raises OSError if the folder cannot be written or the disk is full; the temporary file is removed then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")  # of one name, two writers would mix their bytes
    try:
        with temporary.open("wb") as file:
            for part in content:
                buffers: Iterable[Any] = [part] if isinstance(part, bytes) else part
                file.writelines(buffers)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        # A write on a full disk fails without naming its file: name it.
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def file_digest(path: Path, kind: str) -> str:
    """Return the digest of a file: `kind` is sha256, or md5 as in dvc.lock."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write `value` as indented JSON, keys in the order given. Raises ValueError for NaN: no JSON reader takes it."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV table with Unix line ends."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode())


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the table in a YAML 1.2 file. Raises DigitsumError if the file is missing or holds anything else."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DigitsumError(f"{path.name} is not in this folder; run from the project's root, as DVC does") from None
    except ValueError as error:
        raise DigitsumError(f"{path.name} is not UTF-8: {error}") from None
    return parse_yaml(text, path.name)


def parse_yaml(text: str, name: str) -> dict[str, Any]:
    """Return the table in the YAML 1.2 text of the file `name`, read with DVC's reader, so that both read the same.

    Raises DigitsumError if it is not valid, repeats a key, has aliases, or is nested deeper than MAX_DEPTH.
    """
    try:
        _refuse_depth(text, name)
        content = YAML(typ="safe").load(text)
    except MarkedYAMLError as error:
        place = f" (line {error.problem_mark.line + 1})" if error.problem_mark else ""
        raise DigitsumError(f"{name} is not valid YAML: {error.problem}{place}") from None
    except (YAMLError, ValueError, LookupError) as error:  # the last two: `2026-99-99`, `!!bool maybe`
        raise DigitsumError(f"{name} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise DigitsumError(f"{name} holds {shorten(content)}, expected keys with values")
    _refuse_keys(content, name)
    return content


def leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten {"train": {"lr": 1}} to {"train.lr": 1}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def shorten(value: Any) -> str:
    """Return `value` as JSON, cut to 60 characters, for an error message."""
    try:
        text = json.dumps(value, default=str)
    except (TypeError, ValueError):  # a key that is a date, a number of over 4,300 digits
        text = f"of type {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."


def _refuse_keys(content: Any, name: str) -> None:
    """Raise DigitsumError for a key that is no text, which nothing here expects, such as 7 or a date."""
    if isinstance(content, dict):
        for key in content:
            if not isinstance(key, str):
                raise DigitsumError(f"{name} has the key {shorten(key)}, expected text; put it in quotes or remove it")
    if isinstance(content, dict | list):
        for value in content.values() if isinstance(content, dict) else content:
            _refuse_keys(value, name)


def _remove_leftovers(path: Path) -> None:
    """Remove what writers of `path` that were killed have left beside it."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with contextlib.suppress(OSError, ValueError):  # Windows keeps a file that its writer has open
            try:
                if os.name == "posix":
                    os.kill(int(left.suffixes[-2].removeprefix(".")), 0)  # only asks whether there is such a process
                    continue
            except ProcessLookupError:
                pass
            left.unlink()


def _refuse_depth(text: str, name: str) -> None:
    depth = 0
    for event in YAML(typ="safe").parse(text):
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if depth > MAX_DEPTH or isinstance(event, AliasEvent):
            raise DigitsumError(f"{name} is nested deeper than {MAX_DEPTH} levels or has aliases; write it plainly")


def _sync_folder(folder: Path) -> None:
    """Make a rename durable. Windows cannot open a folder and does not need it."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
