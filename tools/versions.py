"""versions.yaml: the packages that dvc.yaml names, in the versions that requirements.lock has; part of `make lock`."""

import json
import re
from pathlib import Path

from digitsum.core.files import write_bytes
from digitsum.core.pipeline import VERSIONS, stage_blocks

HEADER = """\
# The packages that results depend on, in the versions of requirements.lock: `make lock` writes both. A stage reruns
# when one that dvc.yaml names for it changes, and refuses to run with another version. Of a list any version will do.
"""


def main() -> None:
    """Write versions.yaml."""
    write_bytes(Path(VERSIONS), pinned_versions(Path("requirements.lock").read_text()).encode())


def pinned_versions(lock: str) -> str:
    """Return the text of versions.yaml; a package gets a list if the lock has another version for other Pythons."""
    entries = [entry for block in stage_blocks().values() for entry in block["params"] if isinstance(entry, dict)]
    lines = []
    for package in dict.fromkeys(package for entry in entries for package in entry[VERSIONS]):
        pinned = re.findall(rf"(?m)^{re.escape(package)}==(\S+)", lock)
        lines.append(f"{package}: {json.dumps(pinned[0] if len(pinned) == 1 else pinned)}\n")
    return HEADER + "".join(lines)


if __name__ == "__main__":
    main()
