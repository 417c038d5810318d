"""Run a stage of the dvc.yaml in this folder: `python -m stages NAME`, or `python ../../stages NAME` in a study.

`main` shows what happens, and in which order.
"""

import gc
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# The code of this copy must run, also in one that `dvc exp run --temp` made: an installed digitsum points elsewhere.
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

from digitsum.core.errors import one_line_errors  # noqa: E402


def main(name: str, *arguments: str) -> None:
    """Run the stage `name`; `arguments` are for its own main. A failure ends in one line and with exit code 1."""
    with one_line_errors(again="run the same command again; training continues from its last checkpoint"):
        from digitsum.core.numerics import requested_numerics, set_environment
        from digitsum.core.runner import Stage, only_one_stage

        stage = Stage(name)  # takes a snapshot of the inputs, before any of them is used
        stage.refuse_other_versions()
        set_environment(requested_numerics(stage.declared.values))  # PyTorch reads it when it is imported
        module = stage.import_module()
        gc.freeze()  # the garbage collector need not search PyTorch's objects: saves a second
        with only_one_stage(name):
            stage.refuse_undeclared_imports()  # before hours of work
            module.main(stage, *arguments)
            stage.refuse_undeclared_imports()  # those inside functions
            stage.refuse_changed_inputs()  # DVC would record the new ones
            stage.remove_checkpoints()
        gc.freeze()


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("error: name a stage, such as `python -m stages train`; `dvc repro` runs all that need it")
    main(*sys.argv[1:])
