"""DVC's plots as one HTML file that needs no network: `make plots`, or `python -m tools.plots_page [BASE [HEAD]]`.

The page that DVC writes loads Vega from a server on the internet, and is blank without it. Here Vega's code and the
pictures are in the page, so it can also be sent to somebody. What a plot or a branch is called or holds is shown, and
is never code: it is escaped, and the page lets the browser run the two scripts written here and load nothing.
"""

import base64
import hashlib
import html
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import vl_convert
from dvc.exceptions import DvcException
from dvc.repo import Repo

from digitsum.core.errors import DigitsumError, one_line_errors
from digitsum.core.files import read_yaml, write_bytes

VEGA_LITE = "v5.21"  # the last of the version that DVC's plots are written for
PAGE = Path("dvc_plots/index.html")
DRAW = """
for (const spec of document.querySelectorAll("script[type='application/json']"))
    vegaEmbed(spec.parentElement, JSON.parse(spec.textContent), {actions: false});
"""


def main() -> None:
    """Draw the plots of the workspace, or of one or two revisions against each other, into dvc_plots/index.html."""
    revisions = sys.argv[1:]
    command = ["dvc", "plots", "diff", *revisions] if revisions else ["dvc", "plots", "show"]
    refuse_links()
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([*command, "--json", "--out", folder], stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise DigitsumError(f"`{' '.join(command)}` failed, for the reason above")
        plots = json.loads(done.stdout)["data"]
        page = write_page("\n".join(element for name, parts in plots.items() for element in elements(name, parts)))
    write_bytes(PAGE, page.encode())
    print(f"{PAGE}: {len(page) / 1e6:.1f} MB, complete in itself")


def refuse_links() -> None:
    """Raise DigitsumError if a file of a plot, or a template, is a link: it may lead to any file of the reader."""
    read_yaml(Path("dvc.yaml"))  # DVC's own reader overflows the stack when it is nested deeply
    try:
        with Repo() as repo:
            plots = [os.path.relpath(out.fspath) for out in repo.index.plots] + repo.index._plot_sources
    except (DvcException, OSError) as error:
        raise DigitsumError(" ".join(str(error).split())) from None
    for path in map(Path, [*plots, ".dvc/plots"]):
        for part in (path, *path.parents, *path.rglob("*")):
            if part.is_symlink():
                raise DigitsumError(
                    f"{part} is a link, and its target would be in the page; remove it and run `dvc repro`"
                )


def elements(name: str, parts: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a plot as HTML, pictures with the name of their revision."""
    for part in parts:
        if part["type"] == "image":
            title = html.escape(f"{name}, {', '.join(part['revisions'])}")
            picture = base64.b64encode(Path(part["url"]).read_bytes()).decode()
            yield f'<figure><figcaption>{title}</figcaption><img src="data:image/png;base64,{picture}"></figure>'
        else:
            spec = json.dumps(part["content"]).replace("<", "\\u003c")
            yield f'<div><script type="application/json">{spec}</script></div>'


def write_page(body: str) -> str:
    """Return the page around the plots."""
    scripts = [vl_convert.javascript_bundle(vl_version=VEGA_LITE), DRAW]  # type: ignore[call-arg]
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-eval' {allowed}"
    vega, draw = (f"<script>{script}</script>" for script in scripts)
    return (
        f'<!DOCTYPE html>\n<html><head><meta charset="utf-8"><title>Plots</title>\n'
        "<style>img { max-width: 100% }</style>\n"
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n{vega}</head>\n<body>\n{body}\n{draw}\n'
        "</body></html>\n"
    )


if __name__ == "__main__":
    with one_line_errors():
        main()
