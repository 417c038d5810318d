"""Ends a stage at a named point by a real signal to its process, for test_kills.py.

FAULT in the environment: a signal, a point and what it is about, such as "SIGKILL writing digitsum.safetensors".
Points: update N (the progress bar's Nth step), writing FILE (half of it is in the temporary file), renaming FILE (just
before), renamed FILE (just after).
"""

import os
import signal
from pathlib import Path

from tqdm import tqdm


def install(fault):
    """Patch, in this process, what the fault's point hangs on."""
    name, point, about = fault.split()

    def strike():
        os.kill(os.getpid(), signal.Signals[name])

    updates = 0
    update, fsync, rename = tqdm.update, os.fsync, Path.replace

    def counted_update(bar, n=1):
        nonlocal updates
        updates += 1
        if updates == int(about):
            strike()
        return update(bar, n)

    def halved_fsync(descriptor):
        if Path(f"/proc/self/fd/{descriptor}").readlink().name == f".{about}.tmp":
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
    elif point == "writing":
        os.fsync = halved_fsync
    else:
        Path.replace = watched_rename
