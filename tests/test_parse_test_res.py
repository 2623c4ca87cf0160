"""parse_test_res.py: the tables it prints, worked out by hand."""

import subprocess
import sys
from pathlib import Path

import pytest

from parse_test_res import main
from tests.result_files import EPOCHS, block, place, results, rows, seeds, trained, write
from tools.results.runs import read_run

ROOT = Path(__file__).resolve().parents[1]

# ---- the command: folders of seeds


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


def test_one_run_directory_alone(tmp_path, capsys):
    seeds(tmp_path, 6561)
    assert main([str(tmp_path / "seed1")]) == 0
    assert "* accuracy: 81.00% +- 0.00%" in capsys.readouterr().out


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


# ---- the command: trees

# Zero-shot CLIP ViT-B/16: base, new and HM as published; the last row is the published average,
# whose HM is that of the two averages (the mean of the eleven HMs would be 71.59).
CLIP = {
    "imagenet": (72.43, 68.14, 70.22),
    "caltech101": (96.84, 94.00, 95.40),
    "oxford_pets": (91.17, 97.26, 94.12),
    "stanford_cars": (63.37, 74.89, 68.65),
    "oxford_flowers": (72.08, 77.80, 74.83),
    "food101": (90.10, 91.22, 90.66),
    "fgvc_aircraft": (27.19, 36.29, 31.09),
    "sun397": (69.36, 75.35, 72.23),
    "dtd": (53.24, 59.90, 56.37),
    "eurosat": (56.48, 64.05, 60.03),
    "ucf101": (70.53, 77.50, 73.85),
    "Average": (69.34, 74.22, 71.70),
}


def base_and_new(
    root: Path, dataset: str, seed: int, base: float, new: float, method: str = "MMRL/vit_b16"
) -> None:
    """One seed's two runs, with results in percent of 10,000 images."""
    for split, percent in (("train_base", base), ("test_new", new)):
        folder = place(root / "base2new", split, dataset, seed, method)
        write(folder / "results.json", results(round(100 * percent), 10_000))


def test_base2new_matches_published_averages(tmp_path, capsys):
    for dataset, (base, new, _) in CLIP.items():
        if dataset != "Average":
            base_and_new(tmp_path, dataset, 1, base, new)
    assert main([str(tmp_path)]) == 0
    found = rows(capsys.readouterr().out)
    for dataset, numbers in CLIP.items():
        assert found[dataset] == [f"{number:.2f}" for number in numbers]
    assert found["MMRL, 16 shots (1 seed)"] == []


def test_base2new_over_seeds_and_what_is_missing(tmp_path, capsys):
    for seed, base, new in ((1, 81, 39), (2, 83, 41)):  # 82, 40: HM 53.77
        base_and_new(tmp_path, "dtd", seed, base, new)
    for seed, base, new in ((1, 90, 60), (2, 94, 62), (10, 92, 61)):  # 92, 61: HM 73.36
        base_and_new(tmp_path, "eurosat", seed, base, new)
    base_and_new(tmp_path, "ucf101", 1, 70, 50)
    base_and_new(tmp_path, "ucf101", 2, 80, 60)
    unfinished = place(tmp_path / "base2new", "test_new", "ucf101", 2)
    (unfinished / "results.json").unlink()
    write(unfinished / "log.txt", "loading\n")
    base_and_new(tmp_path, "food101", 1, 50, 50, "CoOp/ctx")
    assert main([str(tmp_path)]) == 0
    out = capsys.readouterr().out
    base, new, hm = (rows(part) for part in out.split("16 shots, ")[1:])
    assert base["dtd"] == ["missing*", "82.00 ± 1.00"]
    assert new["dtd"] == ["missing*", "40.00 ± 1.00"]
    assert hm["dtd"] == ["-", "53.77 ± 1.12"]  # of the means; seeds: 52.65 and 54.89
    assert base["eurosat"] == ["missing*", "92.00 ± 1.63 (3)"]
    assert new["eurosat"] == ["missing*", "61.00 ± 0.82 (3)"]
    assert base["ucf101"] == ["missing*", "75.00 ± 5.00"]
    assert new["ucf101"] == ["missing*", "50.00 (1/2)*"]
    assert hm["ucf101"] == ["-", "60.00 (1/2)*"]
    assert base["food101"] == ["50.00 (1)", "missing*"]
    assert base["Average"] == ["50.00 (1/4)†", "87.00 (2/4)†"]
    assert new["Average"] == ["50.00 (1/4)†", "50.50 (2/4)†"]
    assert hm["Average"] == ["50.00 (1/4)†", "63.91 (2/4)†"]  # 2 * 87 * 50.5 / 137.5
    assert hm["Average of 0 in common"] == ["-", "-"]
    assert (
        "* incomplete, left out of the average: CoOp: dtd, eurosat, ucf101; MMRL: food101, ucf101"
    ) in out
    assert f"unfinished: {unfinished}: no result block in the log" in out
    assert "warning: 1 of 16 runs unfinished" in out


def test_base2new_of_one_dataset_has_methods_as_rows(tmp_path, capsys):
    for method, new in (("MMRL/vit_b16", 60), ("CoOp/ctx16", 40), ("CoOp/ctx4", 50)):
        base_and_new(tmp_path, "shapes", 1, 60, new, method)
    assert main([str(tmp_path / "base2new"), "--ci95"]) == 0
    out = capsys.readouterr().out
    found = rows(out)
    assert found["CoOp/ctx4"] == ["60.00", "50.00", "54.55"]
    assert found["CoOp/ctx16"] == ["60.00", "40.00", "48.00"]
    assert found["MMRL"] == ["60.00", "60.00", "60.00"]
    assert "Average" not in out
    assert out.index("CoOp/ctx4") < out.index("CoOp/ctx16")
    assert f"# base2new: {tmp_path}/base2new\naccuracy in %, mean ± 95% interval" in out


def test_errors_have_no_harmonic_mean(tmp_path, capsys):
    base_and_new(tmp_path, "dtd", 1, 80, 60)
    assert main([str(tmp_path), "--keyword", "error"]) == 0
    out = capsys.readouterr().out
    assert rows(out)["MMRL"] == ["20.00", "40.00"]
    assert "HM" not in out


def test_trees_and_shots_are_not_mixed(tmp_path, capsys):
    base_and_new(tmp_path / "a", "dtd", 1, 80, 60)
    base_and_new(tmp_path / "b", "dtd", 1, 50, 50)
    write(tmp_path / "notes" / "log.txt", block(6561))
    main([str(tmp_path)])
    first, second = capsys.readouterr().out.split(f"# base2new: {tmp_path}/b/base2new")
    assert rows(first)["MMRL"] == ["80.00", "60.00", "68.57"]
    assert rows(second)["MMRL"] == ["50.00", "50.00", "50.00"]
    assert f"in no table: {tmp_path}/notes" in second


def test_few_shot_table(tmp_path, capsys):
    for dataset, shots, seed, correct in [
        ("dtd", 2, 1, 5000),
        ("dtd", 16, 1, 7000),
        ("dtd", 16, 2, 7200),
        ("dtd", 2, 2, 5200),
        ("eurosat", 2, 1, 8000),
        ("eurosat", 2, 2, 8000),
        ("eurosat", 16, 1, 9000),
    ]:
        folder = tmp_path / "few_shot" / dataset / f"shots_{shots}" / "MMRL" / "fs" / f"seed{seed}"
        write(folder / "log.txt", trained(correct, 10_000))
    main([str(tmp_path)])
    out = capsys.readouterr().out
    found = rows(out)
    assert found["2 shots"] == ["16 shots"]
    assert found["dtd"] == ["51.00 ± 1.00", "71.00 ± 1.00"]
    assert found["eurosat"] == ["80.00 ± 0.00", "90.00 (1/2)*"]
    assert found["Average"] == ["65.50 ± 0.50", "71.00 ± 1.00 (1/2)†"]
    assert found["Average of 1 in common"] == ["51.00 ± 1.00", "71.00 ± 1.00"]


def test_cross_dataset_tables(tmp_path, capsys):
    tree = tmp_path / "cross_dataset"
    write(place(tree, "train_source", "imagenet", 1) / "log.txt", trained(7200, 10_000))
    for dataset, correct in [("dtd", 4500), ("eurosat", 5500), ("imagenetv2", 6500)]:
        folder = place(tree, "test_target", dataset, 1)
        write(folder / "log.txt", block(correct, 10_000))
    write(place(tree, "test_target", "imagenet_a", 1) / "log.txt", block(4900, 10_000))
    main([str(tmp_path)])
    out = capsys.readouterr().out
    assert "imagenet, 16 shots, source (1 seed)" in out
    source, targets = out.split("MMRL, 16 shots, targets (1 seed)")
    targets, variants = targets.split("MMRL, 16 shots, domain generalisation (1 seed)")
    assert rows(source)["MMRL"] == ["72.00"]
    assert rows(targets)["Average"] == ["50.00"]
    assert rows(variants)["Average"] == ["57.00"]
    assert set(rows(variants)) >= {"imagenet_a", "imagenetv2"}


def test_cross_dataset_targets_are_due_for_every_trained_seed(tmp_path, capsys):
    tree = tmp_path / "cross_dataset"
    for seed in (1, 2):
        log = place(tree, "train_source", "imagenet", seed) / "log.txt"
        write(log, trained(7200, 10_000))
    write(place(tree, "test_target", "dtd", 2) / "log.txt", block(4500, 10_000))
    main([str(tmp_path)])
    _, targets = capsys.readouterr().out.split("dtd, 16 shots, targets (2 seeds)")
    assert rows(targets)["MMRL"] == ["45.00 (1/2)*"]


def test_reads_what_this_project_writes(tmp_path, capsys):
    import torch

    from dassl.config import get_cfg_default
    from dassl.evaluation import build_evaluator
    from experiment.record import write_results

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
        "finally: print('loaded:', {'torch', 'numpy', 'dassl'} & set(sys.modules))"
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

    monkeypatch.setattr("parse_test_res.find_given", interrupted)
    assert main([str(tmp_path)]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_runs_of_one_seed_in_folders_of_other_names_all_count(tmp_path, capsys):
    for name, correct in (("first", 6561), ("second", 6723)):
        write(tmp_path / "mine" / name / "results.json", results(correct, seed=1))
    assert main([str(tmp_path / "mine"), "--format", "csv"]) == 0
    assert ",accuracy,,82.0,1.0,1.3859292911256331,2,2,,complete," in capsys.readouterr().out
