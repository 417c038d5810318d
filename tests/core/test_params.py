"""Parameters are typed and strict, and a stage sees only the groups that its dvc.yaml block declares."""

import dataclasses
import re

import dvc.utils.serialize
import pytest
from harness.groups import GROUPS
from harness.project import ROOT
from harness.training import make_network

from digitsum.core.errors import DigitsumError
from digitsum.core.runner import Stage
from digitsum.evaluation.params import Evaluate
from digitsum.model.fusions import FUSIONS
from digitsum.model.trunks import TRUNKS
from digitsum.pairing.params import Pair
from digitsum.training.params import Train
from tools.recipes import read_values


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a folder with this project's params.yaml and dvc.yaml."""
    for name in ("params.yaml", "dvc.yaml", "versions.yaml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def change(folder, old, new):
    path = folder / "params.yaml"
    changed, count = re.subn(old, new, path.read_text(), count=1, flags=re.MULTILINE)
    assert count == 1
    path.write_text(changed)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  batch_size: .*", "  batch_size: ten", 'train.batch_size is "ten", expected a whole number of at least 2'),
        ("  batch_size: .*", "  batch_size: 0", "train.batch_size is 0, expected a whole number of at least 2"),
        ("  batch_size: .*", "  batch_size: 2.0", "train.batch_size is 2.0, expected a whole number of at least 2"),
        ("  batch_size: .*", "  batch_size: true", "train.batch_size is true, expected a whole number of at least 2"),
        ("  batch_size: .*", "  batch_size:", "train.batch_size is null, expected a whole number of at least 2"),
        ("  batch_size: .*", "  batch_size: [1]", r"train.batch_size is \[1\], expected a whole number of at least 2"),
        ("  lr: .*", "  lr: fast", 'train.lr is "fast", expected a number above 0'),
        ("  lr: .*", "  lr: .nan", "train.lr is NaN, expected a number above 0"),
        ("  lr: .*", "  lr: .inf", "train.lr is Infinity, expected a number above 0"),
        ("  scaling: .*", "  scaling: 1", "train.scaling is 1, expected a number of at least 0 and below 1"),
        ("  device: .*", "  device: gpu", 'train.device is "gpu", expected one of auto, cpu, cuda, mps'),
        ("  compile: .*", "  compile: 1", "train.compile is 1, expected true or false"),
        ("  lr: .*\n", "", "train.lr is missing, expected a number above 0"),
        ("  lr: .*", "  lr: 1\n  learning: 1", "train.learning is not a parameter; remove it$"),
        ("  lr: .*", "  lr: 1\n  epoch: 1", r"train.epoch is not a parameter; .* \(did you mean epochs\?\)"),
        ("^train:", "trian:", "no stage declares trian; remove it, or fix its spelling"),
        ("  lr: .*", "  lr: 1\n  lr: 2", 'params.yaml is not valid YAML: found duplicate key "lr"'),
        (r"(?s)\A.*\Z", "hello", r"params.yaml holds \"hello\", expected keys with values"),
        ("  lr: .*", "  lr: 2026-99-99", "params.yaml is not valid YAML: month must be in 1..12"),
        (r"(?s)\A.*\Z", "[" * 100_000, "params.yaml is nested deeper than 20 levels or has aliases"),
        (r"(?s)\A.*\Z", "a: [", "params.yaml is not valid YAML: did not find expected node content"),
    ],
)
def test_a_bad_params_file_is_refused_in_one_line(folder, old, new, message):
    change(folder, old, new)
    with pytest.raises(DigitsumError, match=message) as caught:
        Stage("train").params(Train)
    assert str(caught.value).startswith("params.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["010", "1:30", "1e-05", "no", "on", "0o10", "2026-01-01", "1_000", "~", ".nan"])
def test_a_value_is_read_as_dvc_reads_it(folder, text):
    change(folder, "  lr: .*", f"  lr: {text}")
    expected = dvc.utils.serialize.load_yaml("params.yaml")["train"]["lr"]
    for found in (read_values()["train"]["lr"], read_values(ROOT, [f"train.lr={text}"])["train"]["lr"]):
        assert type(found) is type(expected)
        assert repr(found) == repr(expected)


def test_an_unknown_trunk_is_refused_with_the_names_of_those_there_are():
    with pytest.raises(DigitsumError, match='model.trunk is "oak", expected one of strided, small, large'):
        make_network("shift", trunk="oak")


@pytest.mark.parametrize("text", ["1e-05", "1E-5", "0.00001", "1.0e-05", "+1e-05"])
def test_small_numbers_are_numbers_however_they_are_written(folder, text):
    change(folder, "  lr: .*", f"  lr: {text}")
    assert Stage("train").params(Train).lr == 1e-5


def test_a_value_that_another_stage_reads_is_not_checked(folder):
    change(folder, "  batch_size: .*", "  batch_size: ten")
    assert Stage("pair").params(Pair).seed == 0


def test_an_undeclared_group_cannot_be_read_and_the_message_names_the_line_to_add(folder):
    with pytest.raises(DigitsumError, match=re.escape('add "- evaluate" under stages.train.params')):
        Stage("train").params(Evaluate)


def test_a_stage_that_is_not_there_is_named_with_those_that_are(folder):
    with pytest.raises(
        DigitsumError, match=r"^dvc.yaml: there is no stage trian, only fetch, pair, train, evaluate, export$"
    ):
        Stage("trian")


@pytest.mark.parametrize(("setting", "hint"), [("train.lrr=1", r", .* \(did you mean train.lr\?\)"), ("lr=1", "")])
def test_a_setting_must_name_a_parameter(setting, hint):
    with pytest.raises(DigitsumError, match=f"{setting} does not name a parameter of params.yaml{hint}"):
        read_values(ROOT, [setting])


@pytest.mark.parametrize(("key", "options"), [("fusion", FUSIONS), ("trunk", TRUNKS)])
def test_the_comment_of_a_choice_names_every_option(key, options):
    comment = re.search(f"((  #.*\n)*)  {key}: (.*)", (ROOT / "params.yaml").read_text())[0]
    assert [name for name in options if not re.search(rf"\b{name}\b", comment)] == []


def test_every_parameter_in_params_yaml_has_a_comment():
    lines = (ROOT / "params.yaml").read_text().splitlines()
    for number, line in enumerate(lines):
        if re.match("  [a-z]", line) and "_sha256" not in line:
            commented = "  # " in line or "  # " in lines[number - 1]
            assert commented, f"params.yaml:{number + 1}: say what it does, its unit or choices"


@pytest.mark.parametrize("value", [10**400, -(10**400), 1e31, float("nan"), float("inf"), {1}, True])
def test_every_number_among_the_parameters_has_limits(value):
    numbers = [field for group in GROUPS.values() for field in dataclasses.fields(group) if field.type in (int, float)]
    assert len(numbers) > 20
    assert [field.name for field in numbers if field.metadata["accepts"](value)] == []


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ("  seed: 18446744073709551616", "train.seed is 18446744073709551616, expected .* at most 4,294,967,295"),
        (f"  seed: 0x1{'0' * 5000}", "train.seed is of type int, expected a whole number"),
        ("  seed: !!set {a}", "train.seed is .* expected a whole number"),
        ("  seed: !!bool maybe", "params.yaml is not valid YAML: 'maybe'"),
        ('  seed: !!int ""', "params.yaml is not valid YAML: string index out of range"),
        ("  seed: 0\n  7: 1", "params.yaml has the key 7, expected text"),
        ("  seed: [a: {2026-01-01: 1}]", 'params.yaml has the key "2026-01-01", expected text'),
        ('  seed: 0\n  "a\\nerror: \\e[2Jb": 1', r"train.a\\nerror: \\x1b\[2Jb is not a parameter; remove it$"),
    ],
)
def test_a_hostile_value_or_key_is_refused_and_shown_in_one_line(folder, new, message):
    change(folder, "  seed: 0  # of the initial.*", new.replace("\\", r"\\"))
    with pytest.raises(DigitsumError, match=message) as caught:
        Stage("train").params(Train)
    assert str(caught.value).isprintable()
