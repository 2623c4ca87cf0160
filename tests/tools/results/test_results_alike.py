"""tools/results: numbers of runs that are not of one experiment, or not comparable, are marked."""

import csv
import io
import json
from pathlib import Path

import pytest

from parse_test_res import main
from tests.helpers.report_page import report
from tests.helpers.result_files import base_and_new, place, results, rows, write
from tools.results import find_runs, grids_of
from tools.results.cli import find_given

SETTINGS = {"OPTIM.LR": 0.002, "DATASET.TEMPLATE": "a {}.", "INPUT.SIZE": [224, 224]}


def put(root: Path, split: str, number: int = 1, method: str = "MMRL/a", **changes: object) -> None:
    """A run of one dataset in seed<number>: 80 or 60 percent; `settings` besides the usual ones."""
    own = {"SEED": number, "OUTPUT_DIR": f"{root}/{number}"} | changes.pop("settings", {})
    correct = 8000 if split == "train_base" else 6000
    folder = place(root / "base2new", split, "dtd", number, method)
    record = {"seed": number, "settings": SETTINGS | own, "eval_only": split != "train_base"}
    write(folder / "results.json", results(correct, 10_000, **record | changes))


def marks(root: Path, method: str = "MMRL") -> dict[str, tuple[str, ...]]:
    (grid,) = grids_of(find_runs(root))
    return {part: grid.cell("dtd", method, part).unlike for part in grid.parts}


def trained(**settings: object) -> dict:
    return {"settings": SETTINGS | {"SEED": 1} | settings, "data_hash": "d" * 64}


LR = "OPTIM.LR differs: 0.002 (seed1), 0.5 (seed2)"
TEMPLATE = "DATASET.TEMPLATE differs: a {}. (base), it is a {}. (new)"
NONE = {"base": (), "new": (), "HM": ()}

# changes to base and to new of seed 1, and the marks
PAIRS = {
    "nothing": ({}, {}, NONE),
    "halves": ({"settings": {"DATASET.SUBSAMPLE_CLASSES": "base"}}, {}, NONE),
    "shots of a test": (
        *({"settings": {"DATASET.NUM_SHOTS": 16}}, {"settings": {"DATASET.NUM_SHOTS": -1}}),
        NONE,
    ),
    "a list is a tuple": ({"settings": {"INPUT.SIZE": [224, 224]}}, {}, NONE),
    "template": (
        *({}, {"settings": {"DATASET.TEMPLATE": "it is a {}."}}),
        NONE | {"HM": (TEMPLATE,)},
    ),
    "training that is known": (
        *({"data_hash": "d" * 64}, {"settings": {"OPTIM.LR": 9}, "trained": trained()}),
        NONE,
    ),
    "another training": (
        *({}, {"trained": trained(**{"OPTIM.LR": 0.5})}),
        NONE | {"HM": ("trained with OPTIM.LR differs: 0.002 (base), 0.5 (new)",)},
    ),
    "training on other data": (
        *({"data_hash": "e" * 64}, {"trained": trained()}),
        NONE | {"HM": (f"trained with data_hash differs: {'e' * 12} (base), {'d' * 12} (new)",)},
    ),
    "weights": (
        *({"weights_hash": "a" * 64}, {"weights_hash": "b" * 64}),
        NONE | {"HM": (f"weights_hash differs: {'a' * 12} (base), {'b' * 12} (new)",)},
    ),
    "junk": ({"trained": [3], "weights_hash": 4}, {"trained": {"settings": 5}}, NONE),
}


@pytest.mark.parametrize("case", PAIRS)
def test_base_and_new_are_of_one_experiment(tmp_path, case):
    base, new, expected = PAIRS[case]
    put(tmp_path, "train_base", **base)
    put(tmp_path, "test_new", **new)
    assert marks(tmp_path) == expected


def test_seeds_are_of_one_experiment(tmp_path):
    for split in ("train_base", "test_new"):
        put(tmp_path, split, 1)
        put(tmp_path, split, 2)
    assert marks(tmp_path) == NONE
    put(tmp_path, "train_base", 2, settings={"OPTIM.LR": 0.5})
    found = marks(tmp_path)
    assert (found["base"], found["new"]) == ((LR,), ())
    assert found["HM"] == (LR, "OPTIM.LR differs: 0.5 (base), 0.002 (new)")


def test_classes_with_fewer_images_than_shots_are_marked(tmp_path):
    for seed in (1, 2):
        put(tmp_path, "train_base", seed, shots=16, shots_short={"b": 3, "c": 1})
        put(tmp_path, "test_new", seed, shots=16, shots_short=None)
    text = "fewer images than 16 shots: b 3, c 1"
    assert marks(tmp_path) == {"base": (text,), "new": (), "HM": (text,)}
    put(tmp_path, "train_base", 2, shots=16, shots_short={})
    assert marks(tmp_path)["base"] == (text,)


def test_a_copy_of_a_seed_is_marked(tmp_path):
    put(tmp_path, "train_base", 1)
    put(tmp_path, "train_base", 2)
    assert marks(tmp_path)["base"] == ()
    put(tmp_path, "train_base", 2, seed=1)
    assert marks(tmp_path)["base"] == ("all of seed 1: seed1, seed2",)
    for seed in (1, 2):  # any seed: not a copy
        put(tmp_path, "train_base", seed, seed=-1)
    assert marks(tmp_path)["base"] == ()


@pytest.fixture
def unfair(tmp_path):
    """Two methods of which one had other images, on one of two datasets."""
    for method, data in (("CoOp/a", "1"), ("MMRL/a", "2")):
        put(tmp_path, "train_base", method=method, data_hash=data * 64)
        put(tmp_path, "test_new", method=method, data_hash="3" * 64)
        base_and_new(tmp_path, "eurosat", 1, 80, 60, method)
    return tmp_path


IMAGES = "seed 1: data_hash differs: 111111111111 (CoOp), 222222222222 (MMRL)"


def test_methods_of_a_row_had_the_same_images(unfair):
    for method in ("CoOp", "MMRL"):
        assert marks_of_dtd(unfair, method) == {"base": (IMAGES,), "new": (), "HM": (IMAGES,)}


def marks_of_dtd(root: Path, method: str) -> dict[str, tuple[str, ...]]:
    (grid,) = grids_of(find_runs(root))
    average = grid.average(method, "HM", grid.common())
    assert average.unlike == (IMAGES,)
    return {part: grid.cell("dtd", method, part).unlike for part in grid.parts}


def test_marks_in_every_format(unfair, capsys):
    def printed(*flags: str) -> str:
        assert main([str(unfair), *flags]) == 0
        return capsys.readouterr().out

    simple = rows(printed().split("16 shots, new")[0])
    assert simple["dtd"] == ["80.00‡", "80.00‡"]
    assert (simple["eurosat"], simple["Average"]) == (["80.00"] * 2, ["80.00‡"] * 2)
    assert simple[f"‡ dtd (CoOp, MMRL): {IMAGES}"] == []
    assert f"\n‡ dtd (CoOp, MMRL): {IMAGES}" in printed("--format", "github")
    latex = printed("--format", "latex")
    assert r"80.00$\ddagger$" in latex and f"% ‡ dtd (CoOp, MMRL): {IMAGES}" in latex
    assert "+0.00‡" in printed("--against", "MMRL")
    lines = list(csv.DictReader(io.StringIO(printed("--format", "csv"))))
    assert {x["part"] for x in lines if x["unlike"] == IMAGES} == {"base", "HM"}
    cells = json.loads(printed("--format", "json"))["cells"]
    assert {x["dataset"] for x in cells if x["unlike"]} == {"dtd", "average", "average in common"}
    assert main([str(unfair), "--strict"]) == 1


def test_marks_in_the_report(unfair):
    page = report(unfair)
    base = page.tables["16 shots, base (1 seed)"]
    assert base[1:3] == [["dtd", "80.00‡", "80.00‡"], ["eurosat", "80.00", "80.00"]]
    assert base[3] == ["Average", "80.00‡", "80.00‡"]
    assert f"‡ dtd (CoOp, MMRL): {IMAGES}" in page.text
    assert "1 reason why numbers are marked ‡" in page.text


def test_a_test_alone_has_fewer_images_than_a_training(tmp_path):
    put(tmp_path, "train_base", method="CoOp/a", data_hash="1" * 64)
    put(tmp_path, "train_base", method="CLIP/a", data_hash="2" * 64, eval_only=True)
    assert marks(tmp_path, "CoOp")["base"] == ()


def test_targets_are_tested_with_the_weights_of_one_training(tmp_path):
    tree = tmp_path / "cross_dataset"
    source = place(tree, "train_source", "imagenet", 1) / "results.json"
    write(source, results(8000, 10_000, settings=trained()["settings"], data_hash="d" * 64))
    for dataset, rate in (("dtd", 0.002), ("eurosat", 0.5)):
        record = {"eval_only": True, "trained": trained(**{"OPTIM.LR": rate})}
        folder = place(tree, "test_target", dataset, 1)
        write(folder / "results.json", results(5000, 10_000, **record))
    text = "trained with OPTIM.LR differs: 0.002 (imagenet, dtd), 0.5 (eurosat)"
    source, targets = grids_of(find_runs(tmp_path))
    assert source.cell("imagenet", "MMRL", "accuracy").unlike == ()
    assert targets.cell("dtd", "MMRL", "accuracy").unlike == (text,)
    assert targets.average("MMRL", "accuracy", targets.datasets).unlike == (text,)


# ---- outside of trees


def test_base_and_new_in_one_folder_are_not_averaged(tmp_path, capsys):
    for name, classes, correct in (("mine", "base", 8000), ("mine_new", "new", 6000)):
        write(tmp_path / name / "results.json", results(correct, 10_000, classes=classes))
    assert main([str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"outcome of directory: {tmp_path}, classes base (1 of 1 runs)" in lines
    assert [x for x in lines if x.startswith("*")] == [
        "* accuracy: 80.00% +- 0.00%",
        "* accuracy: 60.00% +- 0.00%",
    ]
    assert main([str(tmp_path), "--format", "csv"]) == 0
    printed = capsys.readouterr()
    assert f'"{tmp_path}, classes new"' in printed.out and "2 kinds of runs" in printed.err


def test_folders_beside_seeds_are_left_out(tmp_path, capsys):
    names = ("seed1", "seed2", "seed1 (copy)", "seed1-old")
    for name, correct in zip(names, (8000, 8200, 10, 20), strict=True):
        write(tmp_path / name / "results.json", results(correct, 10_000))
    assert main([str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "(2 of 2 runs)\n* accuracy: 81.00% +- 1.00%\n" in out
    assert f"left out, not called seed<N>: {tmp_path}: seed1 (copy), seed1-old" in out
    assert main([str(tmp_path / "seed1 (copy)")]) == 0
    assert "(1 of 1 runs)" in capsys.readouterr().out


def test_seeds_with_other_settings_are_marked(tmp_path, capsys):
    for seed, rate in ((1, 0.002), (2, 0.5)):
        settings = {"SEED": seed, "OPTIM.LR": rate}
        content = results(8000, 10_000, seed=seed, settings=settings)
        write(tmp_path / f"seed{seed}" / "results.json", content)
    assert main([str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert f"* accuracy: 80.00% +- 0.00% ‡\n‡ {LR}\n" in out
    assert main([str(tmp_path), "--strict"]) == 1


def test_older_runs_have_their_settings_elsewhere(tmp_path):
    config = "** Config **\nOPTIM:\n  LR: 0.002\n  STEPS: (1, 2)\nSEED: 1\n"
    write(tmp_path / "seed1" / "log.txt", config)
    write(tmp_path / "seed2" / "config.yaml", "OPTIM:\n  LR: 0.5\n  STEPS: [1, 2]\nSEED: 2\n")
    for name in ("seed1", "seed2"):
        write(tmp_path / name / "results.json", results(8000, 10_000))
    (experiment,) = find_given(tmp_path).experiments
    assert experiment.cell("accuracy").unlike == (LR,)
    write(tmp_path / "seed2" / "config.yaml", "[")  # damaged: nothing is known
    (experiment,) = find_given(tmp_path).experiments
    assert experiment.cell("accuracy").unlike == ()


def test_an_average_of_experiments_is_of_one_kind(tmp_path, capsys):
    for name, classes, correct in (("a", "base", 9000), ("b", "base", 7000), ("c", "new", 5000)):
        more = {"classes": classes, "settings": {"OPTIM.LR": correct}, "dataset": name}
        write(tmp_path / name / "seed1/results.json", results(correct, 10_000, **more))
    assert main([str(tmp_path), "--multi-exp"]) == 0
    out = capsys.readouterr().out
    assert "average over 2 of 2 experiments, classes base\n* accuracy: 80.00%\n" in out
    assert "average over 1 of 1 experiments, classes new\n* accuracy: 50.00%\n" in out
    assert main([str(tmp_path), "--multi-exp", "--strict"]) == 0
    more["settings"] = {"OPTIM.LR": 0.5}
    write(tmp_path / "b/seed1/results.json", results(7000, 10_000, **more))
    assert main([str(tmp_path), "--multi-exp", "--strict"]) == 1
    assert "* accuracy: 60.00% ‡\n‡ OPTIM.LR" in capsys.readouterr().out
