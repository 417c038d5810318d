"""DVC's plots as one HTML file that needs no network: `make plots`, or `python -m tools.plots_page [BASE [HEAD]]`.

The page that DVC writes loads Vega from a server on the internet, and is blank without it. Here Vega's code and the
pictures are in the page, so it can also be sent to somebody.
"""

import base64
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import vl_convert
from dvc_render.html import PAGE_HTML

from digitsum.core.files import write_bytes

VEGA_LITE = "v5.21"  # the last of the version that DVC's plots are written for
PAGE = Path("dvc_plots/index.html")


def main() -> None:
    """Draw the plots of the workspace, or of one or two revisions against each other, into dvc_plots/index.html."""
    revisions = sys.argv[1:]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scripts = f"<script>{vl_convert.javascript_bundle(vl_version=VEGA_LITE)}</script>"  # type: ignore[call-arg]
        (folder / "template.html").write_text(PAGE_HTML.replace("{scripts}", scripts), encoding="utf-8")
        command = ["dvc", "plots", "diff", *revisions] if revisions else ["dvc", "plots", "show"]
        options = ["--out", name, "--html-template", str(folder / "template.html")]
        if subprocess.run([*command, *options], stdout=subprocess.DEVNULL).returncode:
            sys.exit(f"error: `{' '.join(command)}` failed, for the reason above")
        page = (folder / "index.html").read_text(encoding="utf-8")
        page = re.sub(r'(?<=<img src=")static/[^"]+', lambda source: _inline(folder / source[0]), page)
    write_bytes(PAGE, page.encode())
    print(f"{PAGE}: {len(page) / 1e6:.1f} MB, complete in itself")


def _inline(image: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(image.read_bytes()).decode()


if __name__ == "__main__":
    main()
