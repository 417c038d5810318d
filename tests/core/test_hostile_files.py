"""A damaged or hostile file ends in one line: no traceback, no hang, no result, and no code of its own is run."""

import functools
import json
import random
import struct

import pytest
import torch
import yaml
from harness.training import make_network, train

from digitsum.core.errors import DigitsumError
from digitsum.core.runner import Stage
from digitsum.data.splits import load_split, save_split
from digitsum.data.tensors import load_tensors
from digitsum.model.network import load_model, save_model
from digitsum.pairing.params import Pair
from digitsum.training.checkpoint import Checkpoint
from digitsum.training.params import Train
from tools import check

TIMES = 12  # mutants of each kind and file


# --- Files of tensors ------------------------------------------------------------------------------------------------


def flip_bits(content, draws):
    mutant = bytearray(content)
    for _ in range(draws.randint(1, 8)):
        mutant[draws.randrange(len(mutant))] ^= 1 << draws.randrange(8)
    return bytes(mutant)


def flip_bits_of_the_header(content, draws):
    length = 8 + struct.unpack("<Q", content[:8])[0]
    return flip_bits(content[:length], draws) + content[length:]


def truncate(content, draws):
    return content[: draws.randrange(len(content))]


def in_header(change):
    """Make a mutation that changes the header of a safetensors file, a JSON table, and keeps the rest."""

    @functools.wraps(change)
    def mutate(content, draws):
        length = struct.unpack("<Q", content[:8])[0]
        header = json.loads(content[8 : 8 + length])
        change(header, draws)
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + content[8 + length :]

    return mutate


def tensors_of(header):
    return [name for name in header if name != "__metadata__"]


@in_header
def swap_shapes(header, draws):
    one, other = draws.sample(tensors_of(header), 2)
    header[one]["shape"], header[other]["shape"] = header[other]["shape"], header[one]["shape"]


@in_header
def swap_contents(header, draws):
    one, other = draws.sample(tensors_of(header), 2)
    header[one], header[other] = header[other], header[one]


@in_header
def change_type(header, draws):
    header[draws.choice(tensors_of(header))]["dtype"] = draws.choice(["F64", "F16", "I8", "BOOL", "F8_E4M3", "X"])


@in_header
def declare_a_terabyte(header, draws):
    header[draws.choice(tensors_of(header))] |= {"shape": [2**40], "data_offsets": [0, 2**40]}


@in_header
def nest_the_metadata(header, draws):
    header["__metadata__"] = {"digitsum": "[" * draws.randint(1000, 200_000)}


@in_header
def change_the_config(header, draws):
    about = json.loads(header["__metadata__"]["digitsum"])
    about["config"][draws.choice(sorted(about["config"]) or ["x"])] = draws.choice([True, 1, -1, "add", [], None])
    header["__metadata__"] = {"digitsum": json.dumps(about)}


OF_BYTES = [flip_bits, flip_bits_of_the_header, truncate]
OF_HEADERS = [swap_shapes, swap_contents, change_type, declare_a_terabyte, nest_the_metadata, change_the_config]


def write_model(path, splits):
    save_model(path, make_network("concat", 0.2, 0.3, trunk="small"))


def train_to_the_end(path, splits):
    train(splits, "shift", "small", Checkpoint(path, "key"))


FILES = {  # how each is written, and read
    "model": (write_model, lambda path, splits: load_model(path)),
    "split": (lambda path, splits: save_split(path, splits["test"]), lambda path, splits: load_split(path)),
    "checkpoint": (train_to_the_end, train_to_the_end),
}


@pytest.mark.parametrize("mutate", OF_BYTES + OF_HEADERS)
@pytest.mark.parametrize("kind", FILES)
def test_a_mutated_file_of_tensors_is_refused(kind, mutate, splits, tmp_path):
    write, read = FILES[kind]
    path = tmp_path / "file.safetensors"
    write(path, splits)
    content = path.read_bytes()
    (tmp_path / "original").write_bytes(content)  # tensors are read from their file when they are used
    original = load_tensors(tmp_path / "original")
    for seed in range(TIMES):
        path.write_bytes(mutate(content, random.Random(seed)))
        try:
            tensors, config = load_tensors(path)
        except DigitsumError as error:
            assert "\n" not in str(error)
            with pytest.raises(DigitsumError):
                read(path, splits)
        else:  # nothing that counts was changed, such as the name of a key that nobody reads
            assert config == original[1]
            assert tensors.keys() == original[0].keys()
            assert all(torch.equal(tensor, original[0][name]) for name, tensor in tensors.items())


# --- YAML ------------------------------------------------------------------------------------------------------------


def delete_a_line(content, draws):
    lines = content.splitlines(keepends=True)
    del lines[draws.randrange(len(lines))]
    return b"".join(lines)


def swap_lines(content, draws):
    lines = content.splitlines(keepends=True)
    one, other = draws.sample(range(len(lines)), 2)
    lines[one], lines[other] = lines[other], lines[one]
    return b"".join(lines)


def nest(content, draws):
    return content + b"\nx: " + draws.choice([b"[", b"{a: "]) * draws.randint(1000, 100_000)


def build_an_object(content, draws):
    tag = draws.choice(["object/apply:os.system", "object/apply:os._exit", "object/new:os.system", "name:os.system"])
    return content + f"\nx: !!python/{tag} [touch hacked]\n".encode()


def multiply(content, draws):
    """Write aliases of aliases: a few lines that stand for 10^20 values."""
    lines = ["x0: &x0 [1]"] + [f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 10)}]" for n in range(1, 21)]
    return content + ("\n" + "\n".join(lines) + "\n").encode()


YAML_MUTATIONS = [flip_bits, truncate, delete_a_line, swap_lines, nest, build_an_object, multiply]


@pytest.mark.parametrize("mutate", YAML_MUTATIONS)
@pytest.mark.parametrize("name", ["params.yaml", "dvc.yaml"])
def test_mutated_parameters_and_pipelines_are_read_strictly_or_refused(name, mutate, project, monkeypatch):
    monkeypatch.chdir(project.folder)
    path = project.folder / name
    content = path.read_bytes()
    for seed in range(TIMES):
        path.write_bytes(mutate(content, random.Random(seed)))
        for stage, group in (("pair", Pair), ("train", Train)):
            try:
                Stage(stage).params(group)
            except DigitsumError as error:
                assert len(str(error)) < 500
            else:
                assert mutate not in (nest, build_an_object, multiply)
    assert not (project.folder / "hacked").exists()


def test_a_pipeline_without_stages_is_refused(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    (project.folder / "dvc.yaml").write_text("stage: 1\n")
    with pytest.raises(DigitsumError, match="^dvc.yaml: there are no stages"):
        check.main()


def test_a_lock_file_with_an_unknown_kind_of_hash_is_refused(project):
    path = project.folder / "dvc.lock"
    path.write_text(path.read_text().replace("hash: md5", "hash: md6"))
    with pytest.raises(DigitsumError, match=r"^dvc\.lock names a kind of hash that DVC does not know"):
        check.stale_stages(project.folder)


@pytest.mark.parametrize("mutate", YAML_MUTATIONS)
def test_a_mutated_lock_file_is_not_taken_for_the_right_one(mutate, project):
    path = project.folder / "dvc.lock"
    content = path.read_bytes()
    for seed in range(TIMES):
        path.write_bytes(mutate(content, random.Random(seed)))
        try:
            stale = check.stale_stages(project.folder)
        except DigitsumError as error:
            assert len(str(error).splitlines()) == 1
        else:
            assert stale or what_counts(path.read_bytes()) == what_counts(content)
    assert not (project.folder / "hacked").exists()


def what_counts(lock):
    """Return the commands, digests and parameters in a lock file: not sizes and not the order."""
    return {
        stage: (
            entry["cmd"],
            entry.get("params"),
            {(kind, file["path"], file["md5"]) for kind in ("deps", "outs") for file in entry.get(kind, [])},
        )
        for stage, entry in yaml.safe_load(lock)["stages"].items()
    }
