"""tools/results, reading logs and runs: expected numbers are worked out by hand."""

import math
import os

import pytest

from tests.helpers.result_files import EPOCHS, block, place, results, seeds, trained, write
from tools.results.frame import ci95, harmonic_mean, std
from tools.results.logs import read_log
from tools.results.reader import find_runs, read_run

# ---- aggregate


def test_aggregates_by_hand():
    assert std([81, 82, 83]) == pytest.approx(math.sqrt(2 / 3))  # divides by 3, not by 2
    assert std([81.5]) == 0
    assert ci95([79, 81, 79, 81]) == pytest.approx(0.98)  # 1.96 * 1 / 2
    assert harmonic_mean(60, 40) == 48
    assert harmonic_mean(0, 0) == 0


# ---- one log


def test_log_gives_all_digits(tmp_path):
    result = read_log(write(tmp_path / "log.txt", trained(12_345, 1_234_567)))
    assert result.metrics["accuracy"] == pytest.approx(0.9999457299, abs=1e-9)
    assert result.metrics["error"] == pytest.approx(99.0000542701, abs=1e-9)
    assert result.metrics["macro_f1"] == 80.2
    assert (result.state, result.reason) == ("complete", None)
    assert result.ignored == ()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "empty"),
        ("\n \n", "empty"),
        ("configuration\n", "no result block"),
        ("=> result\n", "cut off before 'total'"),
        (block(6561).rsplit("%", 1)[0], "damaged line where 'macro_f1'"),
        (block(6561).replace("* total: 8,100\n", ""), "'correct' where 'total' should be"),
        (block(6561).replace("6,561", "8,101"), "8,101 correct of 8,100 is impossible"),
        (block(6561).replace("6,561", "6,570"), "accuracy 81.0% does not fit"),
        (block(6561).replace("19.0", "18.0"), "error 18.0% does not fit"),
        (block(6561).replace("80.2", "180.2"), "not a percentage"),
        (block(6561).replace("8,100", "81,00"), "a damaged line where 'total'"),
        (block(0, 1).replace("total: 1", "total: 0"), "0 correct of 0"),
        (EPOCHS[:-3], "did not finish, last seen in epoch 3 of 3"),
        (EPOCHS + block(6561), "did not finish"),  # an evaluation of the last epoch
        (block(6561) + EPOCHS, "did not finish"),  # an evaluation before training
        (trained(6561) + EPOCHS, "did not finish"),  # trained once more into the same log
    ],
)
def test_unfinished_logs_say_why(tmp_path, content, reason):
    result = read_log(write(tmp_path / "log.txt", content))
    assert not result.metrics
    assert reason in result.reason


@pytest.mark.parametrize(
    "content",
    [
        block(6561),
        "Finished training\n" + block(6561),
        EPOCHS + block(1) + EPOCHS + block(2) + "Finish training\n" + block(6561),
        block(5000) + block(6561),
        block(6561) + block(7000)[:-3],
        block(6561) + block(7000).replace("7,000", "7,100"),
        block(6561).replace("\n", "\r\n"),
        block(6561).replace("* total", "100%|####| 5/5\r* total"),
        block(6561).replace("* correct", "warning of a worker\n* correct"),
        block(6561) + "* class: 0 (cat)\ttotal: 1\n=> per-class result\n* average: 7.0%\n",
        b"\x00\xff\xfe\n" * 9 + block(6561).encode() + b"\x00" * 999,
        "x" * 200_000 + "\n" + block(6561),
        block(6561).replace(",", ""),
    ],
)
def test_sound_block_is_found(tmp_path, content):
    assert read_log(write(tmp_path / "log.txt", content)).metrics["accuracy"] == 81.0


def lines_of(*parts: str) -> str:
    """`=> result` and these lines of a block of 81.0%, or others."""
    known = dict(line[2:].split(": ") for line in block(6561).splitlines()[1:])
    return "=> result\n" + "".join(f"* {p}: {known[p]}\n" if p in known else p for p in parts)


OLD = ("total", "correct", "accuracy", "error")
ONE_LINE = (
    "=> result * REPDIM:4 * total: 8,100 * correct: 6,561 * accuracy: 81.0% * macro_f1: 80.2%\n"
)


@pytest.mark.parametrize(
    ("content", "metrics"),
    [
        (lines_of(*OLD), {}),  # Dassl before macro_f1
        (lines_of("accuracy"), {}),
        (lines_of("accuracy", "error"), {}),
        (lines_of("total", "correct", "accuracy"), {}),
        (lines_of("accuracy", "macro_f1"), {"macro_f1": 80.2}),
        (lines_of(*OLD, "training goes on\n", "* class: 0 (cat)\n"), {}),
        (lines_of(*OLD, "macro_f1", ONE_LINE), {"macro_f1": 80.2}),
        (lines_of(*OLD, ONE_LINE), {}),
        (lines_of(*OLD, "macro_f1", "* ECE: 3.25%\n"), {"macro_f1": 80.2, "ece": 3.25}),
        (lines_of("* ece: 3.25%\n", *OLD), {"ece": 3.25}),
        (lines_of(*OLD, "\n", "* ece: 3.25%\n"), {}),  # stands apart: of what?
        (lines_of(*OLD) + lines_of(*OLD), {}),
        (lines_of(*OLD)[:-4] + "\n" + lines_of(*OLD), {}),
        ("x" * 9000 + "\n" + lines_of(*OLD) + "end\n" * 3000, {}),
    ],
)
def test_logs_of_code_that_prints_less_or_more(tmp_path, content, metrics):
    result = read_log(write(tmp_path / "log.txt", EPOCHS + "Finished training\n" + content))
    assert result.metrics == {"accuracy": 81.0, "error": 19.0} | metrics
    assert (result.state, result.decimals) == ("complete", None if "total" in content else 1)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (lines_of(*OLD)[:-2], "a damaged line where 'error'"),  # in the middle of a number
        (lines_of("accuracy")[:-2], "a damaged line where 'total'"),
        ("* macro_f1: 1.0%\n" + lines_of(*OLD), "cut off before 'macro_f1'"),
        (lines_of(*OLD) + "Finish training\n* macro_f1: 1.0%\n", "cut off before 'macro_f1'"),
        (lines_of(*OLD, "* error: 19.0%\n"), "'error' where 'macro_f1' should be"),
        (lines_of("error", "accuracy"), "'error' where 'total' should be"),
        (lines_of("correct", "accuracy"), "'correct' where 'total' should be"),
        (lines_of("* accuracy: 181.0%\n"), "accuracy 181.0% is not a percentage"),
        (lines_of("* accuracy: 81.0%\n", "* error: 18.0%\n"), "error 18.0% does not fit"),
    ],
)
def test_what_is_cut_off_or_mixed_is_no_result_of_less(tmp_path, content, reason):
    result = read_log(write(tmp_path / "log.txt", content))
    assert not result.metrics
    assert reason in result.reason


def test_a_rounded_accuracy_is_noted(tmp_path):
    write(tmp_path / "log.txt", "=> result\n* accuracy: 81.0%\n")
    assert read_run(tmp_path).notes == (
        "log.txt has no counts: accuracy is as printed, not to two decimals",
    )
    write(tmp_path / "log.txt", "=> result\n* accuracy: 81.04%\n")
    assert read_run(tmp_path).notes == ()


def test_test_log_takes_evaluations_of_unfinished_training(tmp_path):
    log = write(tmp_path / "log.txt", EPOCHS + block(6561))
    assert not read_log(log).metrics
    assert read_log(log, test_log=True).metrics["accuracy"] == 81.0


# ---- one run directory


def test_results_json_goes_before_the_log(tmp_path):
    write(tmp_path / "log.txt", trained(4000))
    write(tmp_path / "results.json", results(6561))
    run = read_run(tmp_path)
    assert run.metrics == {"accuracy": 81.0, "error": 19.0, "macro_f1": 80.25}
    assert run.source == tmp_path / "results.json"


@pytest.mark.parametrize(
    "content",
    [
        results(6561)[:-5],
        "[]",
        "[" * 100_000,
        b"\xff\xfe",
        results(6561, complete="yes"),
        results(6561, total=True),
        results(6561, correct=9000),
        results(6561, accuracy=math.nan),
        results(6561, accuracy=82.0),
        results(6561, macro_f1=None),
        results(6561, total=10**400),
        results(6561) + " " * (1 << 24),
    ],
)
def test_damaged_results_json_falls_back_to_the_log(tmp_path, content):
    write(tmp_path / "log.txt", trained(6642))
    write(tmp_path / "results.json", content)
    run = read_run(tmp_path)
    assert run.metrics["accuracy"] == 82.0
    assert run.source == tmp_path / "log.txt"
    assert "results.json is not used" in run.notes[0]


def test_results_json_of_an_incomplete_run_is_no_result(tmp_path):
    write(tmp_path / "log.txt", trained(6642))
    write(tmp_path / "results.json", results(6561, complete=False))
    run = read_run(tmp_path)
    assert (run.metrics, run.state) == ({}, "unfinished")
    assert "not complete" in run.reason


def test_newest_finished_log_counts(tmp_path):
    write(tmp_path / "log.txt", trained(6480))
    write(tmp_path / "log.txt-2026-02-10-09-00-00", trained(6561))
    write(tmp_path / "log.txt-2026-02-09-10-00-00", trained(6642))
    write(tmp_path / "log.txt-2026-02-11-00-00-00", EPOCHS)
    write(tmp_path / "log.txt-old", trained(6723))
    os.utime(tmp_path / "log.txt")  # as after copying: times of files say nothing
    run = read_run(tmp_path)
    assert run.metrics["accuracy"] == 81.0
    assert run.source.name == "log.txt-2026-02-10-09-00-00"
    assert run.notes == ("log.txt-2026-02-11-00-00-00 is newer and has no result",)


def test_place_of_a_run_is_read_from_its_path(tmp_path):
    write(place(tmp_path / "base2new", "test_new", "dtd", 3) / "log.txt", block(6561))
    write(place(tmp_path, "few_shot", "dtd", 1) / "log.txt", trained(6561))
    place(tmp_path / "cross_dataset", "test_target", "dtd", 2).mkdir(parents=True)
    write(tmp_path / "elsewhere" / "log.txt", block(6561))
    b2n, cross, elsewhere, few = find_runs(tmp_path)
    assert (b2n.protocol, b2n.split, b2n.tree) == ("base2new", "test_new", tmp_path / "base2new")
    assert (b2n.dataset, b2n.shots, b2n.trainer, b2n.cfg) == ("dtd", 16, "MMRL", "vit_b16")
    assert (b2n.seed, cross.seed, few.seed, elsewhere.seed) == (3, 2, 1, None)
    assert (cross.protocol, cross.state) == ("cross_dataset", "missing")
    assert (few.protocol, few.split, few.tree) == ("few_shot", None, tmp_path / "few_shot")
    assert elsewhere.protocol is None


def test_runs_are_found_in_natural_order(tmp_path):
    seeds(tmp_path, *[6561] * 11)
    assert [run.seed for run in find_runs(tmp_path)] == list(range(1, 12))


def test_linked_folders_are_followed_once(tmp_path):
    seeds(tmp_path / "store", 6561)
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "linked").symlink_to(tmp_path / "store")
    (tmp_path / "store" / "circle").symlink_to(tmp_path / "output")
    runs = find_runs(tmp_path / "output")
    assert [run.path for run in runs] == [tmp_path / "output" / "linked" / "seed1"]
