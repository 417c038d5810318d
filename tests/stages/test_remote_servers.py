"""Remotes as people have them, on loopback: sshd, and a server that speaks S3. What fails says so and is made good."""

import getpass
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness.project import Project

pytestmark = pytest.mark.slow
SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/right.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
Subsystem sftp internal-sftp
"""


@dataclass
class Remote:
    """A remote: its address, DVC's settings for it, those of them with a wrong key, and what is printed then."""

    url: str
    settings: dict[str, str]
    wrong: dict[str, str]
    denied: str

    def set(self, project, settings):
        """Write settings into .dvc/config.local, as a password would be."""
        for name, value in settings.items():
            project.succeed("dvc", "remote", "modify", "--local", "storage", name, value)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def serving(port, log, command, **environment):
    """Run a server until the end of the block, which begins when it answers on the port."""
    with subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=log.open("w"), stderr=subprocess.STDOUT
    ) as server:
        try:
            for _ in range(300):
                assert server.poll() is None, log.read_text()
                with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.1)
            yield
        finally:
            server.terminate()


@pytest.fixture
def ssh(tmp_path):
    if not SSHD:
        pytest.skip("needs sshd: apt install openssh-server")
    folder, port = tmp_path / "ssh", free_port()
    (folder / "storage").mkdir(parents=True, exist_ok=True)
    for name in ("host", "right", "wrong"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    (folder / "config").write_text(CONFIG.format(port=port, folder=folder))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd wants it, and its service makes it
    settings = {"port": str(port), "user": getpass.getuser(), "keyfile": f"{folder}/right", "allow_agent": "false"}
    with serving(port, folder / "log", [SSHD, "-D", "-e", "-f", folder / "config"]):
        yield Remote(f"ssh://127.0.0.1{folder}/storage", settings, {"keyfile": f"{folder}/wrong"}, "Permission denied")


@pytest.fixture
def s3(tmp_path):
    import boto3

    port = free_port()
    url, allowed = f"http://127.0.0.1:{port}", {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    made = {"endpoint_url": url, "region_name": "us-east-1", "aws_access_key_id": "a", "aws_secret_access_key": "b"}
    command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
    # Four requests need no key: they make the bucket, and a user who has the right key.
    with serving(port, tmp_path / "log", command, INITIAL_NO_AUTH_ACTION_COUNT="4"):
        boto3.client("s3", **made).create_bucket(Bucket="bucket")
        iam = boto3.client("iam", **made)
        iam.create_user(UserName="user")
        key = iam.create_access_key(UserName="user")["AccessKey"]
        iam.put_user_policy(UserName="user", PolicyName="all", PolicyDocument=policy)
        settings = {"endpointurl": url, "region": "us-east-1", "access_key_id": key["AccessKeyId"]}
        settings |= {"secret_access_key": key["SecretAccessKey"]}
        yield Remote("s3://bucket/digitsum", settings, {"secret_access_key": "wrong"}, "Forbidden")


@pytest.fixture(params=["ssh", "s3"])
def remote(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def shared(project, remote):
    """Return a project with the remote as its default, and nothing pushed."""
    project.succeed("dvc", "remote", "add", "--default", "storage", remote.url)
    project.succeed("git", "commit", "--all", "--quiet", "--message", "Add a remote")
    remote.set(project, remote.settings)
    return project


def assert_a_clone_gets_all(shared, remote, folder):
    """Check that another clone gets every file from the remote, with the right bytes."""
    shared.succeed("git", "clone", "--quiet", str(shared.folder), str(folder))
    clone = Project(folder, shared.environment["MNIST_MIRROR"])
    remote.set(clone, remote.settings)
    clone.succeed("dvc", "pull", "--run-cache")
    assert clone.outputs() == shared.outputs()
    assert clone.reproduce() == []


def test_a_clone_gets_from_a_server_what_was_pushed_once_the_key_is_right(shared, remote, tmp_path):
    remote.set(shared, remote.wrong)
    code, printed = shared.run("dvc", "push", "--run-cache")
    assert code != 0
    assert re.search(remote.denied, printed)
    assert "Traceback" not in printed
    remote.set(shared, remote.settings)
    shared.succeed("dvc", "push", "--run-cache")
    assert_a_clone_gets_all(shared, remote, tmp_path / "clone")


@pytest.mark.parametrize("megabytes", [1, 60])
def test_a_push_that_was_killed_is_completed_by_the_next(shared, remote, megabytes):
    large = shared.folder / "large"
    large.write_bytes(content := os.urandom(100_000_000))
    shared.succeed("dvc", "add", "large")
    cached = shared.folder / ".dvc/cache/files/md5" / re.sub("(..)", r"\1/", hashlib.md5(content).hexdigest(), count=1)
    push = subprocess.Popen(["dvc", "push"], cwd=shared.folder, env=shared.environment)
    while read_by(push, cached) < megabytes * 1_000_000:
        assert push.poll() is None
        time.sleep(0.01)
    push.kill()
    assert push.wait() == -signal.SIGKILL
    shared.succeed("dvc", "push")
    shutil.rmtree(shared.folder / ".dvc/cache")
    large.unlink()
    shared.succeed("dvc", "pull")
    assert large.read_bytes() == content


def read_by(process, file):
    """Return how many bytes of an open file a process has read."""
    for link in Path(f"/proc/{process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            if link.readlink() == file:
                return int((link.parents[1] / "fdinfo" / link.name).read_text().split()[1])  # pos: N
    return 0


@pytest.fixture
def small_disk(tmp_path):
    """Mount a file system of 200 kB where the server keeps its objects; return a function that makes it large."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a small file system")
    folder = tmp_path / "ssh/storage"
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "none", folder], check=True)
    yield lambda: subprocess.run(["mount", "-o", "remount,size=100m", folder], check=True)
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("remote", ["ssh"], indirect=True)
def test_a_full_disk_of_a_server_is_an_error_and_the_next_push_completes_it(small_disk, shared, remote, tmp_path):
    code, printed = shared.run("dvc", "push")
    assert code != 0
    assert "failed to push" in printed
    assert "Traceback" not in printed
    small_disk()
    shared.succeed("dvc", "push", "--run-cache")
    assert_a_clone_gets_all(shared, remote, tmp_path / "clone")
