"""`digitsum verify`: do the files that dvc.lock names hold the bytes that it records, here and in DVC's cache?

DVC does not read the objects in its cache again: what a failing disk or a power cut has left of them is checked out,
pushed, and taken for a result. This reads them all.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import voluptuous as vol
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.schema import COMPILED_LOCKFILE_SCHEMA

from digitsum.core.errors import DigitsumError
from digitsum.core.files import file_digest, read_yaml

MISSING = "is missing"
FOLDER = ".dir"  # ends the digest of a folder; its object in the cache lists the folder's files
LOCK, FILE_LOCKS = Path("dvc.lock"), Path(".dvc/tmp/rwlock")


def recorded_files() -> dict[Path, str]:
    """Return the MD5 of every output that ./dvc.lock names and of its objects in DVC's cache, by path.

    Raises DigitsumError if there is no project here, or its dvc.lock cannot be read.
    """
    try:
        with Repo() as repo:
            cache = Path(os.path.relpath(repo.cache.local.path))
            outs = [(Path(str(out)), out.hash_info.value, out.use_cache) for out in repo.index.outs if out.hash_info]
    except (DvcException, OSError) as error:
        raise DigitsumError(f"{' '.join(str(error).split())}; `digitsum verify --repair` restores dvc.lock") from None
    recorded = {}
    for path, digest, use_cache in outs:
        kept = Path(cache, digest[:2], digest[2:])
        if digest.endswith(FOLDER):
            recorded[kept] = digest.removesuffix(FOLDER)
            entries = [] if fault(kept, recorded[kept]) else json.loads(kept.read_text())
            recorded |= {path / entry["relpath"]: entry["md5"] for entry in entries}
            recorded |= {Path(cache, entry["md5"][:2], entry["md5"][2:]): entry["md5"] for entry in entries}
        else:
            recorded[path] = digest
            if use_cache or kept.exists():  # DVC keeps metrics and figures too, to restore them with an experiment
                recorded[kept] = digest
    return recorded


def fault(path: Path, md5: str) -> str | None:
    """Read a file; return None if it has this MD5, otherwise MISSING or what it holds."""
    if not path.is_file():
        return MISSING
    found = file_digest(path, "md5")
    return None if found == md5 else f"is damaged: {path.stat().st_size:,} bytes with MD5 {found}, recorded is {md5}"


def faults(recorded: dict[Path, str]) -> dict[Path, str]:
    """Return what is wrong with each file that is not as recorded."""
    return {path: found for path, md5 in recorded.items() if (found := fault(path, md5))}


def repair() -> None:
    """Remove what is damaged and bring it back: from its other copy, from a remote, or by running its stage again.

    Raises DigitsumError if a file is not, in the end, as dvc.lock recorded it in the beginning.
    """
    restore_locks()
    wanted: dict[Path, str] = {}
    for attempt in range(3):  # a folder's list comes back before its files; what a remote has may be damaged, too
        recorded = recorded_files()
        wanted = recorded | wanted
        found = faults(recorded)
        if not found:
            break
        for path, what in found.items():
            print(f"{path} {what}")
            path.unlink(missing_ok=True)
        has_remote = keep_sound_outputs()
        if has_remote and attempt == 0:
            run_dvc("fetch", "--quiet")
        run_dvc("checkout", "--quiet")
        run_dvc("repro")
    if left := [str(path) for path, what in faults(wanted).items() if what != MISSING or path in recorded]:
        raise DigitsumError(
            f"not as dvc.lock recorded: {', '.join(left)}; a stage failed, or made other bytes because code, "
            "parameters or the machine are others. `git diff dvc.lock` shows which"
        )


def restore_locks() -> None:
    """Restore dvc.lock from git if it cannot be read, and remove a file of DVC's own locks that cannot."""
    try:
        COMPILED_LOCKFILE_SCHEMA(read_yaml(LOCK))
    except (DigitsumError, vol.Invalid) as error:
        print(f"{error}: restored from git")
        if subprocess.run(["git", "checkout", "HEAD", "--", str(LOCK)]).returncode:
            raise DigitsumError(f"{LOCK} cannot be read, and git has none; `dvc repro` writes it") from None
    try:
        json.loads(FILE_LOCKS.read_text())
    except FileNotFoundError:
        pass
    except ValueError:
        print(f"{FILE_LOCKS} is damaged: removed")
        FILE_LOCKS.unlink()


def keep_sound_outputs() -> bool:
    """Put outputs that are as recorded into DVC's cache where they are missing; return whether there is a remote."""
    with Repo() as repo, repo.lock:
        for out in repo.index.outs:
            if out.use_cache and out.hash_info and out.exists and not out.changed_checksum():
                out.commit(relink=False)
        return bool(repo.config["core"].get("remote"))


def run_dvc(*arguments: str) -> None:
    """Run a command of DVC. What it could not do, the next check shows."""
    subprocess.run([sys.executable, "-m", "dvc", *arguments])


def verify() -> None:
    """Print what is not as recorded. Raises DigitsumError if there is anything."""
    if hasattr(os, "sync"):  # not on Windows
        os.sync()  # write to the disk what the system still keeps in memory
    recorded = recorded_files()
    found = faults(recorded)
    for path, what in found.items():
        print(f"{path} {what}")
    if found:
        missing = sum(what == MISSING for what in found.values())
        raise DigitsumError(
            f"{len(found) - missing} of {len(recorded)} files are damaged and {missing} missing; "
            "`digitsum verify --repair` brings them back"
        )
    print(f"{len(recorded)} files are as dvc.lock records them")
