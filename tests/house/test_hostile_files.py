"""Settings, lists and tables from strangers: nothing is run, memory stays small, and the message
names the file. Images, archives and pickles have files of their own."""

import json
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

import train
from common.safe_yaml import read_yaml
from datasets import _cache
from datasets._files import read_lines, read_mat, read_names
from datasets._splits import read_split_file
from tests.helpers.hostile import Hostile, memory_of
from tests.helpers.toy_run import REPO, command
from tools.data.toy import toy_counts
from tools.results import read_run
from tools.small_clip import weights

DEEP = 100_000


def laughs(levels: int, form: str) -> str:
    """Lists or mappings of ten aliases each to the one before."""
    lines = ["a0: &a0 [1]"]
    for level in range(1, levels):
        names = [f"*a{level - 1}"] * 10
        inner = ", ".join(names if form == "[]" else [f"k{i}: {n}" for i, n in enumerate(names)])
        lines.append(f"a{level}: &a{level} {form[0]}{inner}{form[1]}")
    return "\n".join([*lines, f"DATASET: {{NAME: *a{levels - 1}}}"])


HOSTILE_YAML = {
    "a call": "OUTPUT_DIR: !!python/object/apply:os.mkdir [{marker}]",
    "an object": "!!python/object/new:os.mkdir {{args: [{marker}]}}",
    "a module": "A: !!python/module:antigravity\n",
    "a name": "A: !!python/name:os.system\n",
    "billion laughs": laughs(12, "[]"),
    "billion laughs of keys": laughs(12, "{}"),
    "a list in itself": "A: &a [*a]",
    "a mapping in itself": "A: &a {{B: *a}}",
    "deep": "A: " + "[" * DEEP,
    "deep by lines": "\n".join(" " * i + "a:" for i in range(900)),
    "large": "A: " + "x" * (2 << 20),
    "a list as a key": "? [1, 2]\n: 3",
    "two documents": "A: 1\n---\nB: 2",
    "control characters": "A: \0\1\2",
    "a date that is none": "A: 2024-99-99",
}


@pytest.mark.parametrize("text", HOSTILE_YAML.values(), ids=HOSTILE_YAML)
def test_hostile_yaml(text, tmp_path):
    file, marker = tmp_path / "mine.yaml", tmp_path / "owned"
    file.write_text(text.replace("{marker}", str(marker)).replace("{{", "{").replace("}}", "}"))
    with memory_of(50), pytest.raises(ValueError, match=r"mine\.yaml") as told:
        read_yaml(file)
    assert not marker.exists() and str(told.value).count("\n") < 8

    run = tmp_path / "run"
    run.mkdir()
    (run / "log.txt").touch()
    file.rename(run / "config.yaml")
    with memory_of(50):
        assert not read_run(run).settings
    assert not marker.exists()


@pytest.mark.parametrize("place", ["--config-file", "--dataset-config-file", "per_dataset"])
@pytest.mark.parametrize("name", ["a call", "billion laughs"])
def test_hostile_yaml_by_the_command(place, name, toy, tmp_path, capsys):
    file, marker = tmp_path / "mine.yaml", tmp_path / "owned"
    arguments = command(toy, "MMRL", tmp_path / "out")
    if place == "per_dataset":
        file = tmp_path / "per_dataset.yaml"
        (tmp_path / "small.yaml").write_text(
            (REPO / "configs/trainers/MMRL/small.yaml").read_text()
        )
        arguments[arguments.index("--config-file") + 1] = str(tmp_path / "small.yaml")
    else:
        arguments[arguments.index(place) + 1] = str(file)
    file.write_text(HOSTILE_YAML[name].replace("{marker}", str(marker)))
    assert train.main(arguments) == 2
    message = capsys.readouterr().err
    assert file.name in message and message.count("\n") < 12
    assert not marker.exists() and not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["a call", "billion laughs"])
def test_the_config_of_a_hostile_run(name, toy, tmp_path, capsys):
    """Of a run to go on with, and of one to test."""
    run, marker = tmp_path / "run", tmp_path / "owned"
    (run / "MultiModalRepresentationLearner").mkdir(parents=True)
    (run / "MultiModalRepresentationLearner/model.pth.tar-1").touch()
    (run / "config.yaml").write_text(HOSTILE_YAML[name].replace("{marker}", str(marker)))
    test = command(toy, "MMRL", tmp_path / "out", "--eval-only", "--model-dir", str(run))
    for arguments in (command(toy, "MMRL", run), test):
        assert train.main(arguments) == 2
        assert "config.yaml" in capsys.readouterr().err
    assert not marker.exists()


# JSON


HOSTILE_JSON = {
    "deep": "[" * DEEP,
    "deep in a split": '{"train": ' + '{"a":' * DEEP,
    "a number of many digits": '{"train": [["a", ' + "9" * 10_000 + ', "a"]]}',
    "not UTF-8": b'{"train": "\xff"}',
    "up": '{"train": [["../../x", 0, "a"]], "val": [], "test": []}',
    "absolute": '{"train": [["/etc/passwd", 0, "a"]], "val": [], "test": []}',
    "a drive": '{"train": [["C:/x", 0, "a"]], "val": [], "test": []}',
    "a label of two billion": '{"train": [["a", 2000000000, "a"]], "val": [["b", 0, "b"]], '
    '"test": [["b", 2000000000, "a"]]}',
    "a label that is true": '{"train": [["a", true, "a"]], "val": [], "test": []}',
}


@pytest.mark.parametrize("text", HOSTILE_JSON.values(), ids=HOSTILE_JSON)
def test_hostile_split(text, tmp_path):
    file = tmp_path / "split_zhou_X.json"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with memory_of(50), pytest.raises(ValueError, match=r"split_zhou_X\.json.*(?s:.*) \(?mv "):
        read_split_file(str(file))
    with pytest.raises(ValueError, match=r"split_zhou_X\.json"):
        read_names(str(file))
    assert _cache.load_json(str(tmp_path), file.name) is None  # a cache is made again
    file.rename(tmp_path / "drawn_with.json")
    assert toy_counts(tmp_path) is None


def test_a_listing_that_leads_out_is_made_again(tmp_path):
    (tmp_path / "images/a").mkdir(parents=True)
    (tmp_path / "images/a/1.png").touch()
    assert _cache.list_class_folders_once(str(tmp_path), "images") == {"a": ["1.png"]}
    (kept,) = (tmp_path / "split_fewshot").iterdir()
    content = json.loads(kept.read_text())
    content["a"][1] = ["../../../etc/passwd"]
    kept.write_text(json.dumps(content))
    assert _cache.list_class_folders_once(str(tmp_path), "images") == {"a": ["1.png"]}


# Lists of datasets


def test_hostile_lists(tmp_path):
    file = tmp_path / "classnames.txt"
    file.write_bytes(b"oak\n\xff\xff")
    with pytest.raises(ValueError, match=r"classnames\.txt is not UTF-8: byte 4"):
        read_lines(str(file))
    with open(file, "wb") as stream:  # a line without end that takes no space on the disk
        stream.truncate(20 << 30)
    with memory_of(300), pytest.raises(ValueError, match=r"classnames\.txt is larger than any"):
        read_lines(str(file))


# Tables


def packed_mat(size: int) -> bytes:
    """A MATLAB file whose only variable unpacks to `size` zeros."""
    content = zlib.compress(bytes(size), 9)
    return b"MATLAB 5.0".ljust(124) + b"\0\1IM" + struct.pack("<II", 15, len(content)) + content


def huge_cell(path: Path) -> None:
    """A cell array that says it has two billion cells."""
    savemat(path, {"labels": np.array([["a", "b"]], dtype=object)})
    content = path.read_bytes()
    dims = struct.pack("<ii", 1, 2)
    assert content.count(dims)
    path.write_bytes(content.replace(dims, struct.pack("<ii", 1, 2**31 - 1), 1))


HOSTILE_MAT = {
    "unpacks to 100 MB": lambda path: path.write_bytes(packed_mat(100 << 20)),
    "two billion cells": huge_cell,
    "another variable": lambda path: savemat(path, {"x": [1]}),
    "a pickle": lambda path: path.write_bytes(b"\x80\x04cos\nmkdir\n."),
    "text": lambda path: path.write_text("labels = [1 2 3]"),
    "nothing": lambda path: path.write_bytes(b""),
    "HDF5": lambda path: path.write_bytes(b"MATLAB 7.3".ljust(124) + b"\0\2IM" + bytes(900)),
}


@pytest.mark.parametrize("write", HOSTILE_MAT.values(), ids=HOSTILE_MAT)
def test_hostile_mat(write, tmp_path):
    write(tmp_path / "labels.mat")
    with memory_of(300), pytest.raises(ValueError, match=r"labels\.mat.*get it again"):
        read_mat(str(tmp_path / "labels.mat"), "labels")


def test_an_npz_of_objects(tmp_path):
    objects = np.array([Hostile(tmp_path / "owned")], dtype=object)
    np.savez(tmp_path / "w.npz", **{"token_embedding.ids": objects, "vocab_size": objects})
    with pytest.raises(ValueError, match=re.escape("allow_pickle=False")):
        weights.load(tmp_path / "w.npz")
    assert not (tmp_path / "owned").exists()
