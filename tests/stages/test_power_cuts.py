"""The power fails during and after `dvc repro`: a copy of the disk as it was then gives right results, or says why not.

The project lies on a file system in a file. A copy of that file has what was written to the disk up to then, and not
what the system still kept in memory.
"""

import contextlib
import os
import subprocess
import sys
import time

import pytest
from harness.project import Project

AFTER = [0.05, 0.1, 0.3, 0.6, 1, 1.5, 2, 3, 4, 5, 7, 10, 15, 20, 25, 30, 33, 36]  # seconds after `dvc repro` has ended
EVERY = 0.05  # seconds, while it runs


def as_root(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"needs root and a loop device: {done.stderr.strip()}")


@contextlib.contextmanager
def mounted(image, folder, mirror):
    """Mount a file system; yield its project, and unmount."""
    as_root("mount", "-o", "loop", image, folder)
    try:
        project = Project(folder / "project", mirror)
        project.environment["DVC_SITE_CACHE_DIR"] = str(folder / "site")  # what DVC knows of files is cut, too
        yield project
    finally:
        subprocess.run(["umount", folder], check=True)


def heal(project, **params):
    """Run the pipeline and verify it, and repair it if that fails; return what was needed."""
    for key, value in params.items():
        project.set_param(key.replace("_", "."), value)
    code, printed = project.run("bash", "-c", "dvc repro && digitsum verify")
    if code:
        printed = project.succeed("digitsum", "verify", "--repair")
    return "repaired" if code else "ran again" if "Running stage" in printed else "nothing"


@pytest.mark.nightly
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a loop device and ext4")
@pytest.mark.timeout(1800)
def test_no_cut_leaves_a_wrong_result(finished, tmp_path):
    mirror, image, disk = finished.environment["MNIST_MIRROR"], tmp_path / "disk", tmp_path / "mounted"
    disk.mkdir()
    os.truncate(os.open(image, os.O_CREAT | os.O_WRONLY), 200 * 2**20)
    as_root("mkfs.ext4", "-q", image)
    cuts = []

    def cut(moment):
        cuts.append((moment, tmp_path / f"cut {len(cuts)}"))
        subprocess.run(["cp", "--sparse=always", image, cuts[-1][1]], check=True)

    with mounted(image, disk, mirror) as project:
        before = finished.copy(project.folder).outputs()
        project.set_param("train.seed", 1)
        os.sync()
        with subprocess.Popen(["dvc", "repro"], cwd=project.folder, env=project.environment) as process:
            while process.poll() is None:
                cut("during")
                time.sleep(EVERY)
        ended = time.monotonic()
        for seconds in AFTER:
            time.sleep(max(0, ended + seconds - time.monotonic()))
            cut(f"{seconds} s after")
        after = project.outputs()
    for moment, copy in cuts:
        with mounted(copy, disk, mirror) as project:
            needed = [heal(project)]
            assert project.outputs() == after, moment
            # Back to the old seed and once more to the new one: from DVC's cache, which must not be damaged either.
            needed += [heal(project, train_seed=0)]
            assert project.outputs() == before, moment
            needed += [heal(project, train_seed=1)]
            assert project.outputs() == after, moment
            print(f"cut {moment}: {', '.join(needed)}")
    assert len(cuts) >= 30
