"""Files of the pipeline that a study reads: they are not in git, so it depends on their digests in ../../dvc.lock."""

from pathlib import Path

from digitsum.core.errors import DigitsumError
from digitsum.core.files import file_digest, read_yaml

PIPELINE = Path("../..")


def pipeline_file(stage: str, name: str) -> Path:
    """Return the path of a file that a stage of the pipeline has made.

    Raises DigitsumError unless it is the file that the pipeline's dvc.lock records.
    """
    outs = read_yaml(PIPELINE / "dvc.lock")["stages"][stage]["outs"]
    expected = next(str(out["md5"]) for out in outs if out["path"] == name)
    path = PIPELINE / name
    if not path.is_file():
        raise DigitsumError(f"{path} is missing; run `cd {PIPELINE} && dvc repro` or `dvc pull` there")
    if file_digest(path, "md5") != expected:
        raise DigitsumError(f"{path} is not what dvc.lock records; run `cd {PIPELINE} && digitsum verify --repair`")
    return path
