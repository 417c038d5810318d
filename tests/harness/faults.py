"""Strikes a stage at a named point, for test_kills.py: by a real signal to its process, or by an error of the system.

FAULT in the environment: a signal or an error, a point and what it is about, such as "SIGKILL writing test.safetensors"
or "ENOSPC writing training.csv". Points: update N (the progress bar's Nth step), opening FILE (its temporary file),
writing FILE (half of it is in the temporary file), renaming FILE (just before), renamed FILE (just after).
"""

import errno
import itertools
import os
import signal
from pathlib import Path

from tqdm import tqdm


def install(fault):
    """Patch, in this process, what the fault's point hangs on."""
    name, point, about = fault.split()

    def strike():
        if name in errno.errorcode.values():
            number = getattr(errno, name)
            raise OSError(number, os.strerror(number))
        os.kill(os.getpid(), signal.Signals[name])

    def is_temporary(name):
        return name.startswith(f".{about}.") and name.endswith(".tmp")

    updates = itertools.count(1)
    update, open_, fsync, rename = tqdm.update, Path.open, os.fsync, Path.replace

    def counted_update(bar, n=1):
        if next(updates) == int(about):
            strike()
        return update(bar, n)

    def watched_open(path, *arguments, **keywords):
        if is_temporary(path.name):
            strike()
        return open_(path, *arguments, **keywords)

    def halved_fsync(descriptor):
        if is_temporary(Path(f"/proc/self/fd/{descriptor}").readlink().name):
            os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
            strike()
        return fsync(descriptor)

    def watched_rename(path, target):
        if point == "renaming" and Path(target).name == about:
            strike()
        rename(path, target)
        if point == "renamed" and Path(target).name == about:
            strike()

    if point == "update":
        tqdm.update = counted_update
    elif point == "opening":
        Path.open = watched_open
    elif point == "writing":
        os.fsync = halved_fsync
    else:
        Path.replace = watched_rename
