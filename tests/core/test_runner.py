"""A stage imports what it declares, wherever the project lies, and is started by its runner."""

import subprocess
import sys
import types

import pytest
from harness.project import ROOT, STAGES

from digitsum.core.errors import DigitsumError
from digitsum.core.runner import Stage


@pytest.mark.parametrize("prefix", [ROOT.parent, ROOT, ROOT / ".venv"])
def test_an_undeclared_import_is_refused_wherever_python_is_installed(prefix, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "prefix", str(prefix))
    stage = Stage("fetch")
    tests_too = [name for name, module in sys.modules.items() if str(ROOT) in str(getattr(module, "__file__", None))]
    for name in tests_too:
        if "site-packages" not in sys.modules[name].__file__:
            monkeypatch.delitem(sys.modules, name)
    stage.refuse_undeclared_imports()
    undeclared = types.ModuleType("digitsum.model.trunks")
    undeclared.__file__ = str(ROOT / "src/digitsum/model/trunks.py")
    monkeypatch.setitem(sys.modules, undeclared.__name__, undeclared)
    with pytest.raises(DigitsumError, match="stage fetch imports src/digitsum/model/trunks.py without declaring it"):
        stage.refuse_undeclared_imports()


@pytest.mark.parametrize("stage", STAGES)
def test_the_file_of_a_stage_by_itself_says_how_to_run_it(stage):
    done = subprocess.run([sys.executable, ROOT / "stages" / f"{stage}.py"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: the file of a stage does nothing by itself: run `dvc repro`")
