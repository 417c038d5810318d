"""Parameters are typed and strict, and a stage sees only what its dvc.yaml block declares."""

import dataclasses
import re

import pytest
import yaml
from conftest import ROOT

from digitsum.core.errors import DigitsumError
from digitsum.model.fusions import FUSIONS
from digitsum.model.network import Network
from digitsum.model.trunks import TRUNKS
from digitsum.core.params import GROUPS, load_params


@pytest.fixture
def folder(tmp_path):
    """Return a folder with this project's params.yaml and dvc.yaml."""
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    return tmp_path


def change(folder, old, new, file="params.yaml"):
    text = (folder / file).read_text()
    assert re.search(old, text, re.MULTILINE)
    (folder / file).write_text(re.sub(old, new, text, count=1, flags=re.MULTILINE))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("threads: .*", "threads: ten", 'train.threads is "ten", expected a whole number of at least 1'),
        ("threads: .*", "threads: 0", "train.threads is 0, expected a whole number of at least 1"),
        ("threads: .*", "threads: 2.0", "train.threads is 2.0, expected a whole number of at least 1"),
        ("threads: .*", "threads: true", "train.threads is true, expected a whole number of at least 1"),
        ("threads: .*", "threads:", "train.threads is null, expected a whole number of at least 1"),
        ("threads: .*", "threads: [1]", r"train.threads is \[1\], expected a whole number of at least 1"),
        ("  lr: .*", "  lr: fast", 'train.lr is "fast", expected a number above 0'),
        ("  lr: .*", "  lr: .nan", "train.lr is NaN, expected a number above 0"),
        ("  lr: .*", "  lr: .inf", "train.lr is Infinity, expected a number above 0"),
        ("  scaling: .*", "  scaling: 1", "train.scaling is 1, expected a number of at least 0 and below 1"),
        ("  device: .*", "  device: gpu", 'train.device is "gpu", expected one of auto, cpu, cuda, mps'),
        ("  fusion: .*", "  fusion: 3", "model.fusion is 3, expected a name"),
        ("  lr: .*", "", "train.lr is missing, expected a number above 0"),
        ("  lr: .*", "  lr: 1\n  learning: 1", "train.learning is not a parameter; remove it, or mend its spelling"),
        ("  lr: .*", "  lr: 1\n  epoch: 1", r"train.epoch is not a parameter.*did you mean train.epochs\?"),
        ("^train:", "trian:", "trian.device is not a parameter"),
        (r"(?s)\A.*\Z", "hello", r"params.yaml holds \"hello\", expected keys with values"),
        ("  lr: .*", "  lr: 2026-99-99", "params.yaml is not valid YAML: month must be in 1..12"),
        (r"(?s)\A.*\Z", "[" * 100_000, "params.yaml is nested deeper than 20 levels or has aliases"),
        (r"(?s)\A.*\Z", "a: [", "params.yaml is not valid YAML: while parsing"),
    ],
)
def test_a_bad_params_file_is_refused_in_one_line(folder, old, new, message):
    change(folder, old, new)
    with pytest.raises(DigitsumError, match=message) as caught:
        load_params("train", folder)
    assert str(caught.value).startswith("params.yaml")
    assert "\n" not in str(caught.value)


def test_pairs_per_image_of_zero_is_refused(folder):
    change(folder, "pairs_per_image: .*", "pairs_per_image: 0")
    with pytest.raises(DigitsumError, match="pair.pairs_per_image is 0, expected a whole number of at least 1"):
        load_params("pair", folder)


def test_an_unknown_fusion_or_trunk_is_refused_with_the_names_of_those_there_are():
    with pytest.raises(DigitsumError, match='model.fusion is "glue", expected one of shift, concat, add'):
        Network("glue")
    with pytest.raises(DigitsumError, match='model.trunk is "oak", expected one of strided, small, large'):
        Network("shift", trunk="oak")


@pytest.mark.parametrize("text", ["1e-05", "1E-5", "0.00001", "1.0e-05", "+1e-05"])
def test_small_numbers_are_numbers_however_they_are_written(folder, text):
    change(folder, "  lr: .*", f"  lr: {text}")
    assert load_params("train", folder).train.lr == 1e-5


def test_a_value_that_another_stage_reads_is_not_checked(folder):
    change(folder, "threads: .*", "threads: ten")
    assert load_params("pair", folder).pair.seed == 0


def test_an_undeclared_parameter_cannot_be_read_and_the_message_names_the_line_to_add(folder):
    change(folder, "      - train.lr\n", "", "dvc.yaml")
    params = load_params("train", folder)
    with pytest.raises(DigitsumError, match=re.escape('add "- train.lr" under stages.train.params')):
        _ = params.train.lr
    with pytest.raises(AttributeError):
        _ = params.train.no_such_parameter


def test_a_declared_group_is_refused(folder):
    change(folder, "- train.lr", "- train", "dvc.yaml")
    with pytest.raises(DigitsumError, match="names train, which is not a single parameter"):
        load_params("train", folder)


def test_parameters_are_frozen(folder):
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_params("train", folder).train.lr = 1.0


def test_run_outside_a_project_says_so(tmp_path):
    with pytest.raises(DigitsumError, match=r"dvc.yaml is not in this folder; run from the project's root"):
        load_params("train", tmp_path)


@pytest.mark.parametrize(("key", "options"), [("fusion", FUSIONS), ("trunk", TRUNKS)])
def test_the_comment_of_a_choice_names_every_option(key, options):
    comment = re.search(f"((  #.*\n)*)  {key}: (.*)", (ROOT / "params.yaml").read_text())[0]
    assert [name for name in options if not re.search(rf"\b{name}\b", comment)] == []


def test_a_parameter_that_is_true_or_false_is_nothing_else(folder):
    change(folder, "deskew: .*", "deskew: 1")
    with pytest.raises(DigitsumError, match="model.deskew is 1, expected true or false"):
        load_params("train", folder)


def test_params_yaml_holds_every_parameter_once_with_a_comment():
    lines = (ROOT / "params.yaml").read_text().splitlines()
    for number, line in enumerate(lines):
        if re.match("  [a-z]", line) and "_sha256" not in line:
            assert "  # " in line or "  # " in lines[number - 1], (
                f"params.yaml:{number + 1}: say what it does, its unit or choices"
            )
    written = {f"{group}.{leaf}" for group, leaves in yaml.safe_load("\n".join(lines)).items() for leaf in leaves}
    known = {f"{name}.{field.name}" for name, group in GROUPS.items() for field in dataclasses.fields(group)}
    assert written == known
