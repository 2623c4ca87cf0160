"""parse_test_res.py: what it prints of folders of seeds, worked out by hand; the command itself."""

import subprocess
import sys
from pathlib import Path

import pytest

from parse_test_res import main
from tests.helpers.result_files import (
    EPOCHS,
    base_and_new,
    block,
    results,
    seeds,
    write,
)
from tools.results.reader import read_run

ROOT = Path(__file__).resolve().parents[3]


def test_plain_directory(tmp_path, capsys):
    seeds(tmp_path, 6561, 6642, 6723)  # 81, 82, 83
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == (
        f"file: {tmp_path}/seed1/log.txt. accuracy: 81.00%. \n"
        f"file: {tmp_path}/seed2/log.txt. accuracy: 82.00%. \n"
        f"file: {tmp_path}/seed3/log.txt. accuracy: 83.00%. \n"
        f"outcome of directory: {tmp_path} (3 of 3 runs)\n"
        "* accuracy: 82.00% +- 0.82%\n"
    )


@pytest.mark.parametrize(
    ("flags", "outcome"),
    [
        (["--ci95"], "* accuracy: 82.00% +- 0.92%"),  # 1.96 * 0.8165 / 1.7321
        (["--keyword", "error"], "* error: 18.00% +- 0.82%"),
        (["--keyword", "macro_f1"], "* macro_f1: 80.20% +- 0.00%"),
        (["--test-log"], "* accuracy: 82.00% +- 0.82%"),
    ],
)
def test_flags_of_a_plain_directory(tmp_path, capsys, flags, outcome):
    seeds(tmp_path, 6561, 6642, 6723)
    assert main([str(tmp_path), *flags]) == 0
    assert outcome in capsys.readouterr().out.splitlines()


def test_average_is_not_of_rounded_numbers(tmp_path, capsys):
    seeds(tmp_path, 2431, 2432, total=3000)  # 81.0333, 81.0667; printed 81.0 and 81.1
    main([str(tmp_path)])
    assert "* accuracy: 81.05% +- 0.02%" in capsys.readouterr().out


def test_unfinished_runs_are_listed_and_not_averaged(tmp_path, capsys):
    seeds(tmp_path, 6561, 6723)
    write(tmp_path / "seed9" / "results.json", results(6642))
    write(tmp_path / "seed10" / "log.txt", EPOCHS)
    (tmp_path / "seed11").mkdir()
    (tmp_path / "tensorboard").mkdir()
    assert main([str(tmp_path)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[2] == f"file: {tmp_path}/seed9/results.json. accuracy: 82.00%. "
    assert out[3].startswith(f"unfinished: {tmp_path}/seed10: training did not finish")
    assert out[4] == f"missing: {tmp_path}/seed11: no log.txt and no results.json"
    assert out[6:] == [
        "* accuracy: 82.00% +- 0.82%",
        "warning: 2 of 5 runs unfinished and not averaged",
    ]


def test_exit_status_without_results(tmp_path, capsys):
    assert main([str(tmp_path)]) == 1
    assert "add --multi-exp" in capsys.readouterr().err
    write(tmp_path / "seed1" / "log.txt", EPOCHS)
    assert main([str(tmp_path)]) == 1
    assert "no finished run" in capsys.readouterr().out
    assert main([str(tmp_path / "seed1"), "--multi-exp"]) == 1
    assert "drop --multi-exp" in capsys.readouterr().err


def test_bad_input_is_status_2(tmp_path, capsys):
    (tmp_path / "base2new").mkdir()
    assert main([str(tmp_path / "base2nwe")]) == 2
    assert f"did you mean {tmp_path}/base2new?" in capsys.readouterr().err
    assert main([str(write(tmp_path / "log.txt", block(6561)))]) == 2
    assert "is a file" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path), "--keyword", "acuracy"])
    assert stopped.value.code == 2


def test_multi_exp(tmp_path, capsys):
    seeds(tmp_path / "exp2", 6561, 6723)  # 82
    seeds(tmp_path / "exp10", 7290)  # 90
    write(tmp_path / "exp11" / "seed1" / "log.txt", EPOCHS)
    assert main([str(tmp_path), "--multi-exp"]) == 0
    out = capsys.readouterr().out
    outcomes = [line for line in out.splitlines() if line.startswith(("outcome", "*", "average"))]
    assert outcomes == [
        f"outcome of directory: {tmp_path}/exp2 (2 of 2 runs)",
        "* accuracy: 82.00% +- 1.00%",
        f"outcome of directory: {tmp_path}/exp10 (1 of 1 runs)",
        "* accuracy: 90.00% +- 0.00%",
        f"outcome of directory: {tmp_path}/exp11 (0 of 1 runs)",
        "* accuracy: no finished run",
        "average over 2 of 3 experiments",
        "* accuracy: 86.00%",
    ]


def test_runs_of_one_seed_in_folders_of_other_names_all_count(tmp_path, capsys):
    for name, correct in (("first", 6561), ("second", 6723)):
        write(tmp_path / "mine" / name / "results.json", results(correct, seed=1))
    assert main([str(tmp_path / "mine"), "--format", "csv"]) == 0
    assert ",accuracy,,82.0,1.0,1.3859292911256331,2,2,,complete," in capsys.readouterr().out


def test_reads_what_this_project_writes(tmp_path, capsys):
    import torch

    from dassl.config import get_cfg_default
    from dassl.evaluation import build_evaluator
    from run.record import write_results

    evaluator = build_evaluator(get_cfg_default(), lab2cname={0: "cat", 1: "dog"})
    labels = torch.arange(3000) % 2
    scores = torch.nn.functional.one_hot(labels, 2).float()
    scores[:1000] = scores[:1000].flip(1)  # 2,000 of 3,000 right
    evaluator.process(scores, labels)
    values = evaluator.evaluate()
    write(tmp_path / "seed1" / "log.txt", EPOCHS + "Finish training\n" + capsys.readouterr().out)
    assert read_run(tmp_path / "seed1").metrics["accuracy"] == pytest.approx(200 / 3, abs=1e-9)

    (tmp_path / "seed2").mkdir()
    cfg = get_cfg_default()
    cfg.TASK, cfg.DATASET.SUBSAMPLE_CLASSES = "FS", "all"
    write_results(cfg, {"split": "test", "total": 3000, **values}, tmp_path / "seed2")
    run = read_run(tmp_path / "seed2")
    assert run.source.name == "results.json"
    assert run.metrics["accuracy"] == pytest.approx(200 / 3, abs=1e-9)


def test_a_reader_that_stops_early_is_no_error(tmp_path):
    for number in range(1000):
        (tmp_path / f"seed{number}").mkdir()
    write(tmp_path / "seed1" / "log.txt", block(6561))
    done = subprocess.run(
        f"'{sys.executable}' parse_test_res.py '{tmp_path}' | head -1",
        shell=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"missing: {tmp_path}/seed0: no log.txt and no results.json\n"
    assert done.stderr == ""


def test_lines_fit_and_no_heavy_imports(tmp_path):
    """A terminal without '±' does not matter, and the command starts without torch."""
    for dataset in ("describable_textures", "oxford_flowers"):
        for seed, base, new in ((1, 81.12, 70.3), (2, 83.02, 71.5)):
            method = "CoCoOp/vit_b16_c4_ep10_batch1_ctxv1"
            base_and_new(tmp_path, dataset, seed, base, new, method)
            base_and_new(tmp_path, dataset, seed, base, new, "CoCoOp/b")
    code = (
        "import sys, runpy\nsys.argv[0] = 'parse_test_res.py'\n"
        "try: runpy.run_path('parse_test_res.py', run_name='__main__')\n"
        "finally: print('loaded:', {'torch', 'dassl'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT,
        env={"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "82.07 \\xb1 0.95" in done.stdout
    assert "loaded: set()" in done.stdout
    tables = [line for line in done.stdout.splitlines() if str(tmp_path) not in line]
    assert max(map(len, tables)) <= 100


def test_debug_and_an_interrupt(tmp_path, monkeypatch, capsys):
    with pytest.raises(FileNotFoundError):
        main([str(tmp_path / "nowhere"), "--debug"])

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("tools.results.cli.find_given", interrupted)
    assert main([str(tmp_path)]) == 130
    assert capsys.readouterr().err == "interrupted\n"
