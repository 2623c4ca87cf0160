"""One rule for values in YAML files and in KEY VALUE: what they mean is up to the key."""

import math
import os

import pytest

import train
from common.config_files import read_config
from common.safe_yaml import Plain, read_as_written
from run.config import build_config, default_config, merge_file, repeated
from run.flat import flatten
from run.identity import check_continues, planned
from run.typed import typed
from tests.helpers.toy_run import REPO, build, command, config

NUMBERS = (0.5, 0)  # keys that have a number with a point, and a whole one
WRITTEN = [  # as it stands in a file, default of the key, value
    ("8e-2", 0.5, 0.08),
    ("1e-3", 0.5, 0.001),
    ("'1e-3'", 0.5, 0.001),
    ("1", 0.5, 1.0),
    ("+.5", 0.5, 0.5),
    ("1_000", 0, 1000),
    ("0x10", 0, 16),
    (".inf", 0.5, math.inf),
    ("-inf", 0.5, -math.inf),
    ("[8e-2, 1]", (0.5, 1.0), (0.08, 1)),
    ("[[1e-3, 2], [x, '3']]", [], [[0.001, 2], ["x", "3"]]),
    ("(1, 2)", [0], [1, 2]),
    ("'[1, 2]'", (0,), (1, 2)),
    ("[normalize, 007, 2024-01-05]", (), ("normalize", "007", "2024-01-05")),
    ("true", False, True),
    ("off", True, False),
    ("2024-01-05", "", "2024-01-05"),
    ("007", "", "007"),
    ("1_000", "", "1_000"),
    ("12:30:00", "", "12:30:00"),
    ("on", "", "on"),
    ("'NULL'", "", "NULL"),
    ("'False'", "", "False"),
    ("'“a” {}'", "", "“a” {}"),
    ("''", "x", ""),
    ("5", None, 5),
    ("~", None, None),
]


@pytest.mark.parametrize(("text", "default", "value"), WRITTEN)
def test_a_value_of_a_file(text, default, value, tmp_path):
    (tmp_path / "a.yaml").write_text(f"A: {text}", encoding="utf-8")
    found = typed(read_as_written(tmp_path / "a.yaml")["A"], default)
    assert found == value and repr(found) == repr(value)  # no text that remembers its line


ON_THE_COMMAND_LINE = [
    *(row for row in WRITTEN if row[0][:1] not in tuple("'[~")),
    ("['a', 'b']", (), ("a", "b")),  # lists as in Python
    ("[8e-2, 1]", (0.5, 1.0), (0.08, 1)),
]


@pytest.mark.parametrize(("text", "default", "value"), ON_THE_COMMAND_LINE)
def test_the_same_on_the_command_line(text, default, value):
    assert typed(Plain(text), default) == value


@pytest.mark.parametrize(
    ("text", "default", "says"),
    [
        *(("12:30:00", number, "number") for number in NUMBERS),
        *(("2024-01-05", number, "number") for number in NUMBERS),
        *(("016", number, "number") for number in NUMBERS),  # YAML reads it as 14
        *(("yes", number, "number") for number in NUMBERS),
        ("2.0", 10, "a whole number, as in 10"),
        ("true", 10, "a whole number"),
        ("1", True, "True or False"),
        ("１", 0, r"U\+FF11\), use a plain '1'"),
        ("−1", 0, r"use a plain '-'"),
        ("0，1", 0.5, "use a plain ','"),
        ("normalize", (), "a list"),
        ("[a]", "", "a text"),
        *((word, "", f"in quotes: '{word}'") for word in ("NULL", "~", "False", "true")),
        ("“a photo of a {}.”", "", "use a plain '\"'"),
        ("!!python/tuple [1]", "", None),
        ("!!timestamp 2024-01-05", "", "a text"),
    ],
)
def test_a_value_that_is_refused(text, default, says, tmp_path):
    (tmp_path / "a.yaml").write_text(f"A: {text}", encoding="utf-8")
    with pytest.raises(ValueError, match=says):
        typed(read_as_written(tmp_path / "a.yaml")["A"], default)


def given(tmp_path, text: str, *opts: str, encoding: str = "utf-8"):
    (tmp_path / "mine.yaml").write_bytes(text.encode(encoding))
    return config("--trainer", "CoOp", "--config-file", str(tmp_path / "mine.yaml"), *opts)[0]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("space", [" ", "\u00a0", "\u3000"])
def test_files_of_other_editors(encoding, space, tmp_path):
    """No-break spaces, as copied from a web page, are read where they can mean nothing else."""
    text = f"OPTIM:\r\n{space * 2}LR:{space}0.5{space}\r\nINPUT: {{RRCROP_SCALE: [8e-2, 1]}}\r\n"
    cfg = given(tmp_path, text, encoding=encoding)
    assert (cfg.OPTIM.LR, cfg.INPUT.RRCROP_SCALE) == (0.5, (0.08, 1))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("OPTIM:\n  NAME: sgd\n  LR： 1\n  GAMMA: 1", r"line 4.*'：' \(U\+FF1A\), use a plain ':'"),
        ("INPUT: {SIZE: [1，2]}", r"INPUT.SIZE"),
        ("INPUT:\n  TRANSFORMS: ['a'，'b']", r"line 2.*'，' .*use a plain ','"),
        ("# 学习率：0.1\nOPTIM: [", "correct it there"),  # a comment may say what it likes
        ("optim:\n  lr: 1", "did you mean OPTIM.LR"),
        ("OPTM: 1", "did you mean OPTIM\\?"),
        ("TRAINER: {PROMPT_SRC: {FOO: 1}}", "did you mean TRAINER.PROMPTSRC\\?.*no file.*adds"),
        ("TRAINER:\n  COOP:\n", "TRAINER.COOP .*line 2 has nothing below it: leave it out"),
        ("TRAINER:\n  COOP:\n    N_CTX:4\n", "TRAINER.COOP holds keys, not 'N_CTX:4'.*line 3"),
        ("DATASET:\n  PATH: NULL", "PATH cannot be 'NULL' .*line 2.*it stands in quotes: 'NULL'"),
        ("TRAINER: {COOP: {CTX_INIT: False}}", "CTX_INIT cannot be 'False'"),
        ("TRAINER: {COOP: {CSC: a photo}}", "CSC cannot be 'a photo'.*True or False"),
    ],
)
def test_what_is_said_of_a_file(text, says, tmp_path):
    with pytest.raises(ValueError, match=f"(?s){says}"):
        given(tmp_path, text)


@pytest.mark.parametrize(
    ("opts", "says"),
    [
        (("OPTIM.LR", "1", "--seed", "2"), "--seed must stand before the first KEY VALUE"),
        (("OPTIM.LR", "1", "--seed=2"), "--seed must stand before the first"),
        (("OPTIM.LR", "1", "--eval-only"), "--eval-only must stand before .* OPTIM.LR here"),
        (("OPTIM.LR", "1", "--no-train", "SEED", "1"), "--no-train must stand before"),
        (("OPTIM.LR", "1", "--debug"), "--debug must stand before"),
        (("OPTIM.LR", "1", "--sead", "2"), "unknown flag '--sead'; did you mean --seed"),
        (("OPTIM.LR=1",), "'OPTIM.LR=1' must be written with a space: OPTIM.LR 1"),
        (("optim.lr", "1"), "did you mean OPTIM.LR"),
        (("OPTIM.LR", ""), "OPTIM.LR has no value"),
        (("DATASET.TEMPLATE", '"a', "leaf", "of", "a", '{}."'), 'cut into words at "a; put it'),
    ],
)
def test_what_is_said_of_the_end_of_a_command(opts, says):
    with pytest.raises(ValueError, match=says):
        config("--trainer", "CoOp", *opts)


def test_a_text_may_be_empty_and_begin_with_a_quote():
    cfg, _ = config("--trainer", "CoOp", "TRAINER.COOP.CTX_INIT", "", "DATASET.TEMPLATE", "'s {}")
    assert (cfg.TRAINER.COOP.CTX_INIT, cfg.DATASET.TEMPLATE) == ("", "'s {}")


def test_a_key_with_two_values_is_told():
    given = [
        "--seed",
        "3",
        "OPTIM.LR",
        "1",
        "TASK",
        "FS",
        "OPTIM.LR",
        "2",
        "TASK",
        "FS",
        "SEED",
        "4",
    ]
    assert repeated(train.parse_args(given)) == [
        "SEED is given as 3, then 4: the last one counts",
        "OPTIM.LR is given as 1, then 2: the last one counts",
    ]


def test_keys_of_plugins_take_true_false_or_a_text(tmp_path):
    """As what goes with published code does, whatever it declares."""
    (tmp_path / "keys.py").write_text(
        "def add_config(cfg):\n    node = cfg.TRAINER.COOP\n"
        "    node.INIT, node.WORDS, node.CSC = False, 'x', 'end'\n"
    )
    file = tmp_path / "mine.yaml"
    for init, words, csc in (("a photo of a", False, True), (True, "on", "no")):
        file.write_text(f"TRAINER: {{COOP: {{INIT: {init}, WORDS: {words}, CSC: {csc}}}}}")
        cfg = default_config([tmp_path / "keys.py"])
        merge_file(cfg, file)
        node = cfg.TRAINER.COOP
        assert (node.INIT, node.WORDS, node.CSC) == (init, words, csc)
        file.write_text(cfg.dump())  # as a run keeps it
        merge_file(again := default_config([tmp_path / "keys.py"]), file)
        assert again == cfg
    file.write_text("TRAINER: {COOP: {INIT: 0}}")
    with pytest.raises(ValueError, match="True or False"):
        merge_file(cfg, file)


def test_our_files_hold_values_of_the_type_that_their_key_has():
    """So they mean the same to every YAML reader, also to yacs, which takes no 25 for 25.0."""
    leaves = dict(flatten(default_config()))
    for file in REPO.glob("configs/*/**/*.yaml"):
        if file.name == "per_dataset.yaml":
            continue
        merge_file(cfg := default_config(), file)
        found = dict(flatten(cfg))
        for key, value in flatten(read_config(file)):
            as_list = list(value) if isinstance(value, list) else value
            kept = list(found[key]) if isinstance(value, list) else found[key]
            assert kept == as_list, (file, key)
            assert type(value) is type(leaves[key]) or isinstance(value, list), (file, key)


@pytest.mark.parametrize("place", ["flag", "key", "file"])
def test_a_tilde_is_the_home_folder(place, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    keys = {"DATASET.ROOT": "root", "OUTPUT_DIR": "output-dir", "MODEL.BACKBONE.NAME": "backbone"}
    text = "OUTPUT_DIR: ~/x\nDATASET: {ROOT: ~/x}\nMODEL: {BACKBONE: {NAME: ~/x}}\n"
    words = {
        "flag": [f"--{flag}=~/x" for flag in keys.values()],
        "key": [word for key in keys for word in (key, "~/x")],
        "file": [],
    }
    cfg = given(tmp_path, text if place == "file" else "", *words[place])
    leaves = dict(flatten(cfg))
    assert {leaves[key] for key in keys} == {os.path.join(tmp_path, "x")}


def test_runs_that_kept_the_tilde_are_the_same_runs(toy, trained, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for newer in ("identity.json", "results.json"):
        (trained / newer).unlink()
    file = trained / "config.yaml"
    file.write_text(file.read_text().replace("PATH: ''", "PATH: ~/own"))
    arguments = command(toy, "MMRL", tmp_path / "o", opts=("DATASET.PATH", "~/own"))
    args = train.parse_args([*arguments, "TRAIN.CHECKPOINT_FREQ", "1"])
    check_continues(planned(build_config(args)[0], args), trained, dict)
    trainer = build(arguments)
    trainer.load_model(str(trained))
    assert trainer.source == ("ColoredShapes", str(tmp_path / "own"))


def test_files_that_flags_name_may_be_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.yaml").write_text("OPTIM: {LR: 0.25}")
    cfg, _ = config("--trainer", "CoOp", "--config-file=~/mine.yaml")
    assert cfg.OPTIM.LR == 0.25
