"""Trees of other CoOp-style code: which directory is what, and what is not understood."""

from pathlib import Path

import pytest

from parse_test_res import main
from tests.helpers.result_files import block, foreign, place, results, rows, write
from tools.results import find_runs, grids_of, read_run
from tools.results.layout import parse_run_path

# (where base and new of one seed lie, trainer, cfg): {} is train_base or test_new
HALVES = [
    ("o/base2new/{}/eurosat/shots_16/MaPLe/c2_ep5/seed1", "MaPLe", "c2_ep5"),
    ("o_1101/base2new/{}/eurosat/c4_ep10/CoCoOp/seed1", "CoCoOp", "c4_ep10"),
    ("o/base2new/{}/eurosat/shots_16_8.0/KgCoOp/ep100/seed1", "KgCoOp", "8.0/ep100"),
    ("PromptSRC/base2new/{}/eurosat/shots_16/PromptSRC/c2/seed1", "PromptSRC", "c2"),
    ("o/base2new/{}/eurosat/ProGrad/ep50_16shots/nctx4/seed1", "ProGrad", "ep50/nctx4"),
    ("o/{}/shots_16/eurosat/TCP/ep50/seed1", "TCP", "ep50"),
    ("o/{}/MultiModalAdapter/eurosat/16shots/ep5/seed1", "MultiModalAdapter", "ep5"),
    ("o/base2new/{}/eurosat/shots_16/CoPrompt/ep8/w8/seed1", "CoPrompt", "ep8/w8"),
    ("o/base2new/{}/eurosat/shots_16/Mine/ep8/seed1", "Mine", "ep8"),
]


def write_halves(root: Path, form: str, trainer: str, **changes: object) -> None:
    for split, classes, correct in (("train_base", "base", 800), ("test_new", "new", 600)):
        log = foreign(correct, "EuroSAT", trainer, classes, **changes)
        write(root / form.format(split) / "log.txt", log)


@pytest.mark.parametrize(("form", "trainer", "cfg"), HALVES)
def test_base_and_new_of_other_code_have_an_hm(tmp_path, form, trainer, cfg):
    write_halves(tmp_path, form, trainer)
    (grid,) = grids_of(find_runs(tmp_path))
    assert (grid.methods, grid.datasets, grid.shots) == ((trainer,), ("eurosat",), 16)
    assert grid.about[trainer].cfg == cfg
    cells = [grid.cell("eurosat", trainer, part) for part in ("base", "new", "HM")]
    assert [cell.mean for cell in cells] == [80, 60, pytest.approx(2 * 80 * 60 / 140)]
    assert not any(cell.unlike for cell in cells)


NOT_CLEAR = [
    ("o/test_new/eurosat/a/b/seed1", "neither a directory nor a config says the number of shots"),
    ("o/test_new/eurosat/a/shots_16/seed1", "not clear which of a is the trainer"),
    ("o/test_new/eurosat/a/b/c/16shots/seed1", "not clear which of a, b, c is the trainer"),
    ("o/test_new/eurosat/1shot/CoOp/shots_16/seed1", "1shot and shots_16 both say"),
    ("o/test_new/CoOp/shots_16/ep50/seed1", "not clear which of CoOp, ep50 is the dataset"),
    ("o/base2new/test_base/dtd/CoOp/a_16shots/seed1", "'test_base' is none of train_base"),
    ("o/test_new/seed1", "neither a directory"),
]


@pytest.mark.parametrize(("path", "why"), NOT_CLEAR)
def test_what_is_not_clear_is_named(tmp_path, capsys, path, why):
    write(place(tmp_path / "base2new", "train_base", "dtd", 1) / "log.txt", block(6561))
    write(tmp_path / path / "log.txt", block(6561))
    write((tmp_path / path).parent / "seed2/log.txt", block(6561))
    assert main([str(tmp_path)]) == 0
    (line,) = (x for x in capsys.readouterr().out.splitlines() if x.startswith("in no table"))
    assert line.startswith(f"in no table: {(tmp_path / path).parent}: seed1, seed2: ")
    assert why in line
    assert main([str(tmp_path), "--strict"]) == 1


CONTRADICTIONS = [
    ({"shots": 4}, "its config says shots 4, the directory 16"),
    ({"classes": "base"}, "its config says classes base, the directory new"),
    ({"classes": "all"}, "its config says classes all, the directory new"),
    ({"dataset": "EuroSAT"}, "its config says dataset eurosat, the directory dtd"),
    ({"dataset": "ImageFolder"}, "its config says dataset ImageFolder, the directory dtd"),
    ({"trainer": "CoCoOp"}, "its config says trainer CoCoOp, the directory CoOp"),
]


@pytest.mark.parametrize("kind", ["log", "json"])
@pytest.mark.parametrize(("changes", "why"), CONTRADICTIONS)
def test_a_place_that_contradicts_the_config_is_none(tmp_path, capsys, kind, changes, why):
    told = {"dataset": "DescribableTextures", "trainer": "CoOp", "classes": "new", "shots": 16}
    told |= changes
    folder = place(tmp_path / "base2new", "test_new", "dtd", 1, "CoOp/a")
    if kind == "json":
        write(folder / "results.json", results(6561, **told))
    else:
        write(folder / "log.txt", foreign(600, **told))
    run = read_run(folder)
    assert (run.protocol, run.astray) == (None, why)
    write(place(tmp_path / "base2new", "train_base", "dtd", 1, "CoOp/a") / "log.txt", block(6561))
    assert main([str(tmp_path)]) == 0
    assert f"in no table: {folder}: {why}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "told",
    [
        {"dataset": "DescribableTextures", "trainer": "CoOp", "shots": -1, "classes": "all"},
        {"dataset": "MyTextures", "trainer": "MyCoOp"},  # not known: they may be the same
        {},
    ],
)
def test_what_is_no_contradiction(tmp_path, told):
    folder = tmp_path / "evaluation/CoOp/rn50_16shots/dtd/seed1"
    write(folder / "results.json", results(6561, **told))
    run = read_run(folder)
    assert run.protocol == "cross_dataset"
    assert (run.dataset, run.trainer, run.shots) == ("dtd", "CoOp", 16)


def test_a_copy_of_a_dataset_is_no_other_dataset(tmp_path):
    for name in ("dtd", "dtd (copy)", "eurosat"):
        dataset = "EuroSAT" if name == "eurosat" else "DescribableTextures"
        folder = place(tmp_path / "base2new", "train_base", name, 1, "CoOp/a")
        write(folder / "log.txt", foreign(600, dataset, "CoOp", "base"))
    (grid,) = grids_of(find_runs(tmp_path))
    text = "all of dataset dtd: dtd, dtd (copy)"
    assert [grid.cell(name, "CoOp", "base").unlike for name in grid.datasets] == [
        (text,),
        (text,),
        (),
    ]


def test_a_folder_called_evaluation_above_a_tree_is_none_of_its_parts(tmp_path):
    found = parse_run_path(tmp_path / "evaluation/mine/output/dtd/CoOp/rn50_4shots/end/seed1")
    assert (found["protocol"], found["dataset"], found["shots"]) == ("few_shot", "dtd", 4)


# ---- what a log's own config tells


def test_settings_of_logs_are_compared(tmp_path, capsys):
    form = "base2new/{}/eurosat/shots_16/CoOp/ep50/seed1"
    write_halves(tmp_path, form, "CoOp")
    write_halves(tmp_path, form.replace("seed1", "seed2"), "CoOp", seed=2)
    assert main([str(tmp_path), "--strict"]) == 0
    assert "‡" not in capsys.readouterr().out
    write_halves(tmp_path, form.replace("seed1", "seed2"), "CoOp", seed=2, LR=0.5)
    assert main([str(tmp_path), "--strict"]) == 1
    out = capsys.readouterr().out
    assert rows(out)["CoOp"] == ["80.00 ± 0.00‡", "60.00 ± 0.00‡", "68.57 ± 0.00‡"]
    assert "‡ eurosat (CoOp): OPTIM.LR differs: 0.002 (seed1), 0.5 (seed2)" in out
