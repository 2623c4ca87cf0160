"""python -m tools.report: the tables of protocols, worked out by hand; the command."""

import pytest

from tests.helpers.report_files import run_folder, write_config, write_run
from tests.helpers.report_page import accuracy, report
from tests.helpers.result_files import EPOCHS, trained, write
from tools.report.__main__ import main
from tools.report.sections import differing
from tools.results import Run


def test_base_to_new_with_averages_worked_out_by_hand(tree):
    values = {"caltech101": (900, 920, 600, 640), "dtd": (500, 500, 400, 400)}
    for dataset, corrects in values.items():
        for number, correct in enumerate(corrects):
            split = ("train_base", "test_new")[number // 2]
            accuracy(run_folder(tree, split, dataset, "MMRL", number % 2 + 1), correct)
    # 2 * 91 * 62 / 153 = 73.75; of the averages 70.5 and 51: 59.19
    header, caltech101, dtd, average = report(tree).tables["MMRL, 16 shots (2 seeds)"]
    assert header == ["data set", "base", "new", "HM"]
    assert caltech101[:3] == ["caltech101", "91.00 ± 1.00", "62.00 ± 2.00"]
    assert caltech101[3].startswith("73.75") and dtd[1] == "50.00 ± 0.00"
    assert [cell.split(" ")[0] for cell in average] == ["Average", "70.50", "51.00", "59.19"]


def test_unfinished_and_missing_runs_are_marked_and_not_averaged(tree):
    for seed, correct in ((1, 800), (2, 900)):
        accuracy(run_folder(tree, "train_base", "dtd", "MMRL", seed), correct)
        accuracy(run_folder(tree, "test_new", "dtd", "MMRL", seed), 500)
        accuracy(run_folder(tree, "train_base", "eurosat", "MMRL", seed), 600)
    write(run_folder(tree, "train_base", "dtd", "MMRL", 3) / "log.txt", f"start\n{EPOCHS}")
    run_folder(tree, "test_new", "eurosat", "MMRL", 1).mkdir(parents=True)
    page = report(tree)
    table = page.tables["MMRL, 16 shots (3 seeds)"]
    assert table[1][1] == "85.00 ± 5.00 (2/3)*"
    assert table[2] == ["eurosat", "60.00 ± 0.00 (2)", "missing*", "-"]
    assert table[3] == ["Average of 0/2", "-", "-", "-"]
    assert "2 runs not complete" in page.text
    assert "seed3: unfinished, training did not finish, last seen in epoch 3 of 3" in page.text


def test_methods_are_compared_on_what_all_of_them_finished(tree):
    for method, datasets in {"CoOp": ("dtd", "food101"), "MMRL": ("dtd",)}.items():
        for dataset in datasets:
            accuracy(run_folder(tree, "few_shot", dataset, method, 1), 600 + len(dataset))
    assert report(tree).tables["16 shots (1 seed)"][-2:] == [
        ["Average", "60.50", "60.30 (1/2)†"],
        ["Average of 1 in common", "60.30", "60.30"],
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
    plots = tree.parent / "plots"
    page = report(tree, "--plots", str(plots))
    described = [attributes["alt"] for tag, attributes in page.tags if tag == "img"]
    assert described == [
        f"Few-shot {panel}: accuracy in % against shots" for panel in ("Average", "dtd", "eurosat")
    ]
    assert page.tables["dtd, 16 shots, targets (1 seed)"][1] == ["MMRL", "45.00"]
    assert page.tables["imagenet, 16 shots, source (1 seed)"][1] == ["MMRL", "72.00"]
    assert page.tables["imagenet_r, 16 shots, domain generalisation (1 seed)"][1] == [
        *("MMRL", "77.00"),
    ]
    assert len(list(plots.iterdir())) == 3
    assert "eurosat" in (plots / "Few-shot_eurosat_accuracy_in_against_shots.svg").read_text()


def test_only_unfinished_runs(tree):
    write(run_folder(tree, "few_shot", "dtd", "MMRL", 1) / "log.txt", "started\n")
    page = report(tree)
    assert page.tables["dtd, 16 shots (1 seed)"][1] == ["MMRL", "unfinished*"]
    assert "1 run, 0 complete" in page.text


def test_what_makes_a_comparison_unfair_is_said(tree, monkeypatch):
    for seed in (1, 2):
        coop = write_run(run_folder(tree, "few_shot", "dtd", "CoOp", seed))
        write_config(coop, OPTIM__LR=0.002, TRAINER__COOP__N_CTX=4)
        mmrl = run_folder(tree, "few_shot", "dtd", "MMRL", seed)
        write_run(mmrl, commit="f" * 40, few_shot_hash="e" * 16 if seed == 2 else "1" * 16)
        write_config(mmrl, OPTIM__MAX_EPOCH=10 * seed)
    monkeypatch.chdir(tree.parent)
    page = report(tree.relative_to(tree.parent))
    assert page.tables["Few-shot"] == [
        ["setting", "CoOp", "MMRL"],
        ["OPTIM.LR", "0.002", "0.001"],
        ["OPTIM.MAX_EPOCH", "10", "10 (1 runs), 20 (1 runs)"],
    ]
    assert "‡ dtd (MMRL): OPTIM.MAX_EPOCH differs: 10 (seed1), 20 (seed2)" in page.text
    assert "seed 2: few_shot_hash differs: 222222222222 (CoOp), eeeeeeeeeeee (MMRL)" in page.text
    assert "1 part of the environment not the same in all runs" in page.text


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({("dtd", 1): 5, ("dtd", 2): 5, ("eurosat", 1): 0.1}, "0.1 (eurosat), 5 (dtd)"),
        ({("dtd", 1): 5, ("dtd", 2): 9, ("eurosat", 1): 5}, "5 (1), 9 (2)"),
        ({("dtd", 1): 5, ("dtd", 2): 9, ("eurosat", 1): 9}, "5 (1 runs), 9 (2 runs)"),
    ],
)
def test_along_what_a_setting_varies(tmp_path, values, text):
    runs = [
        Run(
            tmp_path,
            "complete",
            dataset=dataset,
            shots=shots,
            settings={"A": str(value), "SEED": "1"},
        )
        for (dataset, shots), value in values.items()
    ]
    assert differing({"MMRL": runs}) == {"A": {"MMRL": text}}


def test_records_of_older_runs_and_logs_of_others(tree):
    accuracy(run_folder(tree, "train_base", "dtd", "MMRL", 1), 800)
    write(run_folder(tree, "train_base", "dtd", "CoOp", 1) / "log.txt", trained(6561))
    write(tree / "elsewhere" / "seed1" / "log.txt", trained(6561))
    page = report(tree)
    for text in (
        "Accuracy per class is not recorded",
        "No confusion",
        "No training curves",
        "Of 3 of 3 runs no file says the settings",
        "2 of 3 runs have no results.json",
        "1 run outside of every protocol's folders",
    ):
        assert text in page.text
    assert page.tables["dtd, 16 shots (1 seed)"][1][:2] == ["CoOp", "81.00"]
    assert page.tables["Cost"][1][4:] == ["–"] * 6


# ---- the command


def test_debug_and_an_interrupt(tmp_path, monkeypatch, capsys):
    with pytest.raises(FileNotFoundError):
        main([str(tmp_path), "--debug"])

    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("tools.report.__main__.find_runs", interrupted)
    assert main([str(tmp_path)]) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["outptu"], "there is no folder 'outptu'; did you mean 'output'?"),
        (["output"], "no runs in 'output'"),
        (["file"], "is a file; give a folder of runs"),
        (["output", "-o", "there/report.html"], "there is no folder 'there' for the page"),
        (["output", "-o", "output"], "is a folder; give a file"),
        (["few", "--run", "CoOp"], "--run 'CoOp' fits none of the 1 runs; paths look like 'dtd"),
    ],
)
def test_wrong_arguments(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "output").mkdir()
    (tmp_path / "file").touch()
    accuracy(tmp_path / "few" / "dtd" / "shots_1" / "MMRL" / "x" / "seed1", 500)
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("flag", ["--details", "--classes"])
def test_counts_that_are_none(flag, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["output", flag, "3x"])
    assert stop.value.code == 2 and "a whole number or 'all'" in capsys.readouterr().err
