"""python -m tools.report: the tables of protocols for trees of many kinds, worked out by hand."""

from pathlib import Path

from tests.helpers.report_files import run_folder, write_config, write_run
from tests.helpers.report_page import accuracy, report
from tests.helpers.result_files import EPOCHS, write
from tools.report.notices import notices
from tools.report.selection import Choice
from tools.report.settings import read_settings
from tools.report.task import Task
from tools.results import Measure, find_runs


def test_base_to_new_with_averages_worked_out_by_hand(tree):
    values = {"caltech101": (900, 920, 600, 640), "dtd": (500, 500, 400, 400)}
    for dataset, (*base, new1, new2) in values.items():
        for seed, correct in enumerate(base, 1):
            accuracy(run_folder(tree, "train_base", dataset, "MMRL", seed), correct)
        for seed, correct in enumerate((new1, new2), 1):
            accuracy(run_folder(tree, "test_new", dataset, "MMRL", seed), correct)
    tables = report(tree).tables
    assert tables["Base classes, 16 shots (2 seeds)"] == [
        ["data set", "MMRL"],
        ["caltech101", "91.00 ± 1.00"],
        ["dtd", "50.00 ± 0.00"],
        ["Average", "70.50"],
    ]
    # 2 * 91 * 62 / 153 = 73.75; of the averages 70.5 and 51: 59.19
    hm = tables["Harmonic mean (HM) of base and new, 16 shots (2 seeds)"]
    assert hm[1][1].startswith("73.75") and hm[-1] == ["Average", "59.19"]
    overview = tables["Average over 2 data sets, 16 shots (2 seeds)"]
    assert overview == [["method", "base", "new", "HM"], ["MMRL", "70.50", "51.00", "59.19"]]


def test_unfinished_and_missing_runs_are_marked_and_not_averaged(tree):
    for seed, correct in ((1, 800), (2, 900)):
        accuracy(run_folder(tree, "train_base", "dtd", "MMRL", seed), correct)
        accuracy(run_folder(tree, "test_new", "dtd", "MMRL", seed), 500)
        accuracy(run_folder(tree, "train_base", "eurosat", "MMRL", seed), 600)
    write(run_folder(tree, "train_base", "dtd", "MMRL", 3) / "log.txt", f"start\n{EPOCHS}")
    run_folder(tree, "test_new", "eurosat", "MMRL", 1).mkdir(parents=True)
    page = report(tree)
    base = page.tables["Base classes, 16 shots (3 seeds)"]
    assert base[1:3] == [["dtd", "85.00 ± 5.00 (2/3)"], ["eurosat", "60.00 ± 0.00 (2)"]]
    assert "2 runs not complete" in page.text
    assert "seed3: unfinished, training did not finish, last seen in epoch 3 of 3" in page.text
    assert page.tables["New classes, 16 shots (3 seeds)"][2] == ["eurosat", "missing"]
    assert page.tables["New classes, 16 shots (3 seeds)"][-1] == ["Average", "-"]


def test_methods_are_compared_on_what_all_of_them_finished(tree):
    for method, datasets in {"CoOp": ("dtd", "food101"), "MMRL": ("dtd",)}.items():
        for dataset in datasets:
            accuracy(run_folder(tree, "few_shot", dataset, method, 1), 600 + len(dataset))
    tables = report(tree).tables
    table = tables["16 shots (1 seed)"]
    assert table[-2:] == [
        ["Average", "60.50", "60.30 (1/2)"],
        ["Average over the 1 data set that all have", "60.30", "60.30"],
    ]


def test_few_shot_curves_and_cross_dataset(tree):
    for shots in (1, 16):
        for dataset in ("dtd", "eurosat"):
            for seed in (1, 2):
                folder = run_folder(tree, "few_shot", dataset, "MMRL", seed, shots)
                accuracy(folder, 500 + 10 * shots + seed)
    accuracy(run_folder(tree, "train_source", "imagenet", "MMRL", 1), 720)
    accuracy(run_folder(tree, "test_target", "dtd", "MMRL", 1), 450)
    accuracy(run_folder(tree, "test_target", "imagenet_r", "MMRL", 1), 770)
    page = report(tree, "--plots", str(tree.parent / "plots"))
    described = [attributes.get("aria-label") for tag, attributes in page.tags if tag == "svg"]
    for panel in ("Average", "dtd", "eurosat"):
        assert f"{panel}: accuracy in % against shots" in described
    assert page.tables["dtd, 16 shots, targets (1 seed)"][1] == ["MMRL", "45.00"]
    assert page.tables["imagenet, 16 shots, source (1 seed)"][1] == ["MMRL", "72.00"]
    assert page.tables["imagenet_r, 16 shots, domain generalisation (1 seed)"][1] == [
        *("MMRL", "77.00"),
    ]
    file = (tree.parent / "plots" / "Few-shot.svg").read_text()
    assert "var(" not in file and "eurosat" in file and "MMRL" in file


def test_only_unfinished_runs(tree):
    write(run_folder(tree, "few_shot", "dtd", "MMRL", 1) / "log.txt", "started\n")
    page = report(tree)
    assert page.tables["dtd (1 seed)"][1] == ["MMRL", "unfinished"]
    assert "1 run, 0 complete" in page.text


def test_what_makes_a_comparison_unfair_is_said(tree):
    for seed in (1, 2):
        coop = write_run(run_folder(tree, "few_shot", "dtd", "CoOp", seed))
        write_config(coop, OPTIM__LR=0.002, TRAINER__COOP__N_CTX=4)
        mmrl = run_folder(tree, "few_shot", "dtd", "MMRL", seed)
        write_run(mmrl, commit="f" * 40, few_shot_hash="e" * 16 if seed == 2 else "1" * 16)
        write_config(mmrl, OPTIM__MAX_EPOCH=10 * seed)
    page = report(tree)
    assert page.tables["Few-shot"] == [
        ["setting", "CoOp", "MMRL"],
        ["OPTIM.LR", "0.002", "0.001"],
        ["OPTIM.MAX_EPOCH", "10", "10 (1 runs), 20 (1 runs)"],
    ]
    assert "1 experiment whose seeds were run with different settings" in page.text
    assert "MMRL/vit_b16: OPTIM.MAX_EPOCH" in page.text
    assert "dtd, 16 shots, seed 2: CoOp: 222222222222; MMRL: eeeeeeeeeeee" in page.text
    assert "dtd, 16 shots, seed 1" not in page.text
    assert "1 part of the environment not the same in all runs" in page.text


def test_paths_below_a_relative_root_are_said_once(tree, monkeypatch):
    for seed in (1, 2):
        folder = write_run(run_folder(tree, "few_shot", "dtd", "MMRL", seed))
        write_config(folder, OPTIM__MAX_EPOCH=10 * seed)
    monkeypatch.chdir(tree.parent)
    said = notices_of(Path(tree.name))
    assert said == ["few_shot/dtd/shots_16/MMRL/vit_b16: OPTIM.MAX_EPOCH"]


def notices_of(root: Path) -> list[str]:
    """What is said of seeds that were run with different settings."""
    runs = find_runs(root)
    task = Task(root, runs, Measure(), Choice())
    found = notices(task, {run.path: read_settings(run.path) for run in runs}, [], [])
    return [item for notice in found for item in notice.items if "settings" in notice.text]
