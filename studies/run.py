"""Run a stage from a study's own folder: `python ../run.py stages.train` there is `python -m stages.train` here."""

import runpy
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import stages  # noqa: F401  remembers the stage's inputs and prepares the environment, before PyTorch is imported

sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
