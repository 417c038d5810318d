"""Run the seed study: `python -m studies.seeds`, with the numerics of params.yaml."""

from digitsum.core.errors import one_line_errors
from digitsum.core.numerics import requested_numerics, set_environment

if __name__ == "__main__":
    set_environment(requested_numerics())  # before PyTorch is imported
    from studies.seeds import seeds

    with one_line_errors():
        seeds.main()
