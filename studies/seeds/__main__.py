"""Run the seed study: `python -m studies.seeds`, with the numerics of params.yaml."""

from pathlib import Path

from digitsum.core.errors import one_line_errors
from digitsum.core.files import read_yaml
from digitsum.core.numerics import requested_numerics, set_environment

if __name__ == "__main__":
    with one_line_errors():
        set_environment(requested_numerics(read_yaml(Path("params.yaml"))))  # before PyTorch is imported
        from studies.seeds import seeds

        seeds.main()
