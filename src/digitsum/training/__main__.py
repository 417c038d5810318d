"""Worker 1 or above of a training: `python -m digitsum.training`; or let these go: `--release`. See docs/scale.md."""

import sys
from pathlib import Path

from digitsum.core.errors import one_line_errors
from digitsum.core.files import read_yaml
from digitsum.core.numerics import requested_numerics, set_environment

if __name__ == "__main__":
    with one_line_errors(again="start all workers again"):
        if "--end-with-stdin" not in sys.argv:  # worker 0 has set the environment of those that it starts
            set_environment(requested_numerics(read_yaml(Path("params.yaml"))))
        from digitsum.training import serve, workers

        if "--release" in sys.argv:
            workers.release()
        else:
            if "--end-with-stdin" in sys.argv:
                serve.end_with_stdin()
            serve.serve()
