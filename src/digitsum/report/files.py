"""The files of a revision, from git and from what DVC keeps, in whichever folder of the project this is run."""

import hashlib
import os
import tempfile
from pathlib import Path, PurePosixPath
from typing import Any

from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException
from dvc.fs import GitFileSystem
from dvc.repo import Repo
from dvc.scm import RevError, resolve_rev
from dvc_data.hashfile.tree import Tree
from numpy.typing import NDArray

from digitsum.core.errors import DigitsumError
from digitsum.core.files import parse_yaml
from digitsum.report.git import git

WORKSPACE = "workspace"
FETCH_ALL = "git fetch --unshallow origin '+refs/heads/*:refs/remotes/origin/*'"  # also after a clone of one branch


class Files:
    """The files of one revision, including those that DVC keeps, if its cache or a remote has them.

    Attributes:
        revision: its commit, or WORKSPACE
        title: how it is shown to people
        read: the MD5 of each file that was read
    """

    def __init__(self, name: str) -> None:
        """Find the revision `name`. Raises DigitsumError if there is none, or if git or DVC cannot open the project."""
        self.title = self.revision = name
        self.read: dict[str, str] = {}
        project = _project_folder()
        git("rev-parse")  # git names best what is wrong with a repository
        try:
            here, self.folder = Repo(str(project)), project.as_posix()
            places = _places_of_data(here)
            if name == WORKSPACE:
                self.repo = Repo(self.folder, config=places)
            else:
                self.revision = resolve_rev(here.scm, name)
                short = self.revision[:7]
                self.title = short if self.revision.startswith(name) else f"{name} ({short})"
                self.folder = str(PurePosixPath("/", project.relative_to(_root(here)).as_posix()))
                then = GitFileSystem(scm=here.scm, rev=self.revision)
                self.repo = Repo(self.folder, fs=then, scm=here.scm, config=places)
        except RevError:
            shallow = git("rev-parse", "--is-shallow-repository") == "true"
            more = "`git branch --all` and `dvc exp list --all-commits` show what there is, `git fetch` brings more"
            more = f"this clone is shallow, `{FETCH_ALL}` brings the rest" if shallow else more
            raise DigitsumError(f"{name} is no revision of git and no experiment of DVC here; {more}") from None
        except (DvcException, OSError, RuntimeError) as error:  # RuntimeError: no home folder is known
            raise DigitsumError(f"DVC cannot open this project: {error}") from None
        self.files = DVCFileSystem(self.repo)
        self.root = PurePosixPath("/", PurePosixPath(self.folder).relative_to(Path(self.repo.root_dir).as_posix()))

    def bytes(self, path: str) -> bytes:
        """Return a file's content. Raises OSError if it is not there."""
        content: bytes = self.files.read_bytes(str(self.root / path))
        self.read[path] = hashlib.md5(content, usedforsecurity=False).hexdigest()
        return content

    def text(self, path: str) -> str:
        """Return a text file's content. Raises OSError if it is not there, ValueError if it is not UTF-8."""
        return _decode(self.bytes(path), path)

    def yaml(self, path: str) -> dict[str, Any]:
        """Return the content of a YAML file in git. Raises OSError if it is not there, DigitsumError if it is damaged.

        DVC is not asked: it reads dvc.yaml and dvc.lock first, and crashes where they are nested deeply.
        """
        return parse_yaml(self._tracked_text(path), path)

    def tensors(self, path: str) -> dict[str, NDArray[Any]]:
        """Return a file of tensors as arrays. Raises OSError if it is not there, DigitsumError if it is damaged."""
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, Path(path).name)
            copy.write_bytes(self.bytes(path))
            from digitsum.data.tensors import load_tensors  # imports PyTorch, which takes seconds: only to read a file

            try:
                return {name: tensor.numpy() for name, tensor in load_tensors(copy)[0].items()}
            except DigitsumError as error:
                raise DigitsumError(str(error).replace(str(copy), path)) from None

    def digests(self, path: str) -> dict[str, str]:
        """Return the MD5 of a file, or of each file in a folder but those that .dvcignore names; none if it is gone."""
        files = sorted(os.path.relpath(file, self.root) for file in self.files.find(str(self.root / path)))
        for file in files:
            self.bytes(file)
        return {file: self.read[file] for file in files}

    def first_text(self, *paths: str) -> str:
        """Return the first of some text files in git that is there, nothing if there is none.

        DVC is not asked: it leaves out folders that are DVC projects of their own, such as studies.
        """
        return next((self._tracked_text(path) for path in paths if self.repo.fs.exists(self._tracked(path))), "")

    def _tracked(self, path: str) -> str:
        return str(PurePosixPath(self.folder, path))

    def _tracked_text(self, path: str) -> str:
        with self.repo.fs.open(self._tracked(path), "rb") as file:
            return _decode(file.read(), path)


def _decode(content: bytes, path: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error}") from None


def folder_digest(path: str, content: dict[str, str]) -> str:
    """Return the digest that dvc.lock has for the file or folder `path`, from the MD5 of each file in it, by path."""
    if path in content:
        return content[path]
    tree = Tree.from_list([{"md5": md5, "relpath": file.removeprefix(f"{path}/")} for file, md5 in content.items()])
    tree.digest()
    return str(tree.oid)


def merge_base() -> str:
    """Return the commit where this branch left the default branch. Raises DigitsumError if git cannot tell."""
    git("rev-parse")
    default = git("symbolic-ref", "--short", "refs/remotes/origin/HEAD", default="")
    candidates = [default] if default else ["origin/main", "origin/master", "main", "master"]
    for branch in candidates:
        if base := git("merge-base", "HEAD", branch, default=""):
            return base
    if git("rev-parse", "--is-shallow-repository") == "true":
        raise DigitsumError(f"this clone is shallow and does not reach the base; run `{FETCH_ALL}`")
    raise DigitsumError(f"no merge base with {' or '.join(candidates)}; name the base: digitsum report BASE")


def _project_folder() -> Path:
    """Return the folder of the project that the current folder is in. A study has a dvc.yaml, too, and no stages/."""
    here = Path.cwd().resolve()
    for folder in (here, *here.parents):
        if (folder / "dvc.yaml").is_file() and (folder / "stages").is_dir():
            return folder
    raise DigitsumError(f"{here} is in no project of this pipeline: no folder above it has dvc.yaml and stages/")


def _places_of_data(here: Repo) -> dict[str, Any]:
    """Return DVC's settings of cache and remote, whatever those of a revision are.

    Without a remote, data is looked for in the cache of the main worktree, which is this one if there is one only.
    """
    main = Path(git("rev-parse", "--git-common-dir")).resolve().parent
    upstream = str(main / Path(here.root_dir).relative_to(_root(here)) / ".dvc/cache")
    cache, remote = here.cache.local_cache_dir, here.config["core"].get("remote") or "upstream"
    settings = here.config["remote"].get(remote) or {"url": cache if main == _root(here) else upstream}
    return {"core": {"remote": remote}, "cache": {"dir": cache}, "remote": {remote: settings}}


def _root(here: Repo) -> Path:
    return Path(here.scm.root_dir).resolve()
