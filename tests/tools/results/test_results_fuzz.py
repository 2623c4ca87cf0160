"""Reading what no run should have left: never a traceback, never a number nobody measured."""

import json
import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from parse_test_res import main
from tests.helpers.result_files import block, results, trained, write
from tools.results import find_runs, read_run
from tools.results.logs import read_log

HEADER = "** Config **\n" + "KEY: value\n" * 50
A, B = trained(6561), trained(5000).replace("80.2", "60.7")
SOUND = [  # (accuracy, macro_f1) that A and B state
    (81.0, 80.2),
    (pytest.approx(100 * 5000 / 8100), 60.7),
]
FUZZ = settings(max_examples=200, deadline=None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@FUZZ
@given(st.lists(st.booleans(), max_size=80))
@example([True] * 9 + [False] * 14 + [True] * 4 + [False, True] * 9)
def test_lines_of_two_writers_are_not_put_together(folder, turns):
    streams = {True: A.splitlines(keepends=True), False: B.splitlines(keepends=True)}
    mixed = "".join(streams[turn].pop(0) for turn in turns if streams[turn])
    mixed += "".join(streams[True] + streams[False])
    metrics = read_log(write(folder / "log.txt", mixed), test_log=True).metrics
    assert not metrics or (metrics["accuracy"], metrics["macro_f1"]) in SOUND


def test_a_value_of_another_writer_makes_a_block_unreadable(folder):
    lines = block(6561).splitlines(keepends=True)
    strange = "* macro_f1: 12.3%\n"
    for content in (
        "".join([*lines[:5], strange, lines[5]]),  # the other's value came first
        block(6561) + strange,
        "=> result\n* total: 8,100\n" + block(6561),
    ):
        result = read_log(write(folder / "log.txt", content))
        assert (result.metrics, result.state) == ({}, "unreadable")
        assert "mixed" in result.reason


@FUZZ
@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_read(folder, content, test_log):
    for name in ("log.txt", "results.json"):
        write(folder / "bytes" / "seed1" / name, content)
    run = read_run(folder / "bytes" / "seed1", test_log)
    assert (run.metrics, run.complete) == ({}, False)
    assert run.reason


def test_results_on_validation_images_are_none_of_test(folder):
    test, val = "Evaluate on the *test* set\n", "Evaluate on the *val* set\n"
    log = write(folder / "log.txt", test + block(6561) + val + block(7000))
    assert read_log(log).metrics["accuracy"] == 81.0
    result = read_log(write(log, val + block(7000)))
    assert (result.metrics, result.state) == ({}, "unfinished")
    assert "validation" in result.reason


# ---- results.json

JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
NAMES = (
    "complete total correct accuracy error_rate macro_f1 perclass_accuracy split seed shots "
    "trainer dataset backbone load_epoch classes eval_only settings trained data_hash weights_hash "
    "shots_short"
)
KEYS = st.sampled_from(NAMES.split())


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(KEYS, JUNK, max_size=3))
def test_a_value_of_results_json_may_be_anything(folder, changes):
    path = folder / "few_shot" / "dtd" / "shots_4" / "MMRL" / "cfg" / "seed3"
    write(path / "results.json", results(6561, **changes))
    run = read_run(path)
    assert run.metrics.get("accuracy", 81.0) == 81.0
    assert run.seed == 3
    if not run.astray:
        assert (run.dataset, run.shots, run.trainer) == ("dtd", 4, "MMRL")
    assert all(math.isfinite(value) for value in run.metrics.values())
    assert main([str(folder / "few_shot"), "--format", "csv"]) in (0, 1)


def test_results_without_macro_f1_have_none(tmp_path, capsys):
    record = json.loads(results(6561))
    del record["macro_f1"]
    write(tmp_path / "seed1" / "results.json", json.dumps(record))
    assert read_run(tmp_path / "seed1").metrics == {"accuracy": 81.0, "error": 19.0}
    assert main([str(tmp_path), "--metric", "macro_f1"]) == 0
    assert "unmeasured: " in capsys.readouterr().out


# ---- folders


def test_odd_things_in_folders(tmp_path):
    (tmp_path / "seed1" / "log.txt").mkdir(parents=True)
    (tmp_path / "seed2" / "results.json").mkdir(parents=True)
    write(tmp_path / "seed3", "a file")
    (tmp_path / "self").symlink_to(tmp_path / "self")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    runs = find_runs(tmp_path)
    assert [(run.path.name, run.state) for run in runs] == [
        ("seed1", "unreadable"),
        ("seed2", "unreadable"),
    ]


def test_a_long_log_is_not_held_in_memory(tmp_path):
    import tracemalloc

    log = write(tmp_path / "log.txt", ("y" * 99 + "\n") * 300_000 + "z" * 9_000_000 + "\n" + A)
    tracemalloc.start()
    assert read_log(log).metrics["accuracy"] == 81.0
    write(log, b"\0" * 20_000_000)
    assert read_log(log).state == "unfinished"
    assert tracemalloc.get_traced_memory()[1] < 25_000_000  # what `write` itself needs
    tracemalloc.stop()
