"""`make lint`: words that this project does not use, with those to use instead. Identifiers and prose apart."""

import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

IDENTIFIERS = {
    "resample": "look",
    "num_shifts": "looks beyond",
    "shared_layers": "equivariant",
    "deskew_maps": "upright",
    "forward": "see",
    "encode_images": "see_images",
    "ImageFeatures": "Evidence",
    "linear_of_concatenated": "LinearOfBoth",
    "predicted": "said",
    "actual": "truth",
    "correct": "rights",
    "set_environment": "prepare",
    "configure_torch": "compute_with",
    "available": "there",
    "snapshot_inputs": "remember_inputs",
}
PROSE = {
    "again": "anew",
    "fix": "mend(s|ed|ing)?",
    "costs more": "dearer|too dear",
    "and no": "nor",
    "crops": "looks",
    "withstands": "bears?",
    "about": r"some \d[\d,]*",
    "with other random numbers": "of other luck",
    "shows": "says? better",
    "baseline": "older solutions?|seed_(concat|add)(_wide)?",
}
HERE = Path(__file__).name


def main() -> None:
    """Print every place with such a word; exit with 1 if there is one."""
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout.split()
    files = [Path(name) for name in listed if name.endswith((".py", ".md", ".yaml", ".toml", "Makefile", ".j2"))]
    faults = [fault for file in files if file.is_file() and file.name != HERE for fault in faults_of(file)]
    print(*faults, sep="\n", end="\n" if faults else "")
    sys.exit(f"error: {len(faults)} words to replace; the list is in tools/{HERE}" if faults else 0)


def faults_of(file: Path) -> Iterator[str]:
    """Yield a line for each word of the lists in `file`."""
    pattern = re.compile(rf"\b({'|'.join(PROSE.values())})\b")
    banned = {bad: good for good, names in IDENTIFIERS.items() for bad in names.split()}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        for match in pattern.finditer(line):
            instead = next(good for good, bad in PROSE.items() if re.fullmatch(bad, match[0]))
            yield f"{file}:{number}: {match[0]} (say: {instead})"
    if file.suffix == ".py":
        with file.open("rb") as code:
            for token in tokenize.tokenize(code.readline):
                if token.type == tokenize.NAME and token.string in banned:
                    yield f"{file}:{token.start[0]}: {token.string} (say: {banned[token.string]})"


if __name__ == "__main__":
    main()
