"""The stages of dvc.yaml, each run as `python -m stages.NAME` from the project's root; or by studies/run.py."""

import os
import sys
from pathlib import Path

# The code of this very folder shall run, also in a copy that `dvc exp run --temp` or `--queue` makes: an installed
# digitsum points at the folder that it was installed from.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

# Before any code of a stage is imported. DVC names the stage that it runs; one run by hand is not recorded.
if "DVC_STAGE" in os.environ:
    from digitsum.stage import current_stage, remember_inputs

    remember_inputs(current_stage())

from digitsum import numerics

numerics.prepare(numerics.wanted())
