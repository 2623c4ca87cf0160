"""tools/results: places, methods and grids; expected numbers are worked out by hand."""

from pathlib import Path

import pytest

from tests.helpers.result_files import EPOCHS, block, place, results, write
from tools.results import Measure, find_runs, grids_of, read_run
from tools.results.frame import differences, find_method
from tools.results.layout import parse_run_path


def put(root: Path, part: str, dataset: str, seed: int, percent: float, method="MMRL/a", **more):
    folder = place(root / "base2new", part, dataset, seed, method)
    write(folder / "results.json", results(round(100 * percent), 10_000, **more))


def both(root: Path, dataset: str, seed: int, base: float, new: float, method="MMRL/a", **more):
    put(root, "train_base", dataset, seed, base, method, **more)
    put(root, "test_new", dataset, seed, new, method, **more)


def only(root: Path):
    (grid,) = grids_of(find_runs(root))
    return grid


# ---- places


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (
            "output/base2new/test_new/dtd/shots_16/MMRL/vit_b16/seed3",
            ("base2new", "test_new", "dtd", 16, "MMRL", "vit_b16", 3, "output/base2new"),
        ),
        (
            "few_shot/dtd/shots_4/CoOp/cfg/seed1",
            ("few_shot", None, "dtd", 4, "CoOp", "cfg", 1, "few_shot"),
        ),
        (
            "output/caltech101/CoOp/rn50_16shots/nctx16_cscFalse_ctpend/seed2",
            *[("few_shot", None, "caltech101", 16, "CoOp", "rn50/nctx16_cscFalse_ctpend", 2)],
        ),
        (
            "output/evaluation/CoCoOp/vit_b16_c4_ep10_16shots/eurosat/seed1",
            ("cross_dataset", "test_target", "eurosat", 16, "CoCoOp", "vit_b16_c4_ep10", 1),
        ),
        (
            "output/evaluation/CoOp/rn50_16shots/nctx4_end/imagenetv2/seed1",
            ("cross_dataset", "test_target", "imagenetv2", 16, "CoOp", "rn50/nctx4_end", 1),
        ),
    ],
)
def test_places(tmp_path, path, expected):
    found = parse_run_path(tmp_path / path)
    names = ("protocol", "split", "dataset", "shots", "trainer", "cfg", "seed")
    assert tuple(found[name] for name in names) == expected[:7]
    assert len(expected) == 7 or found["tree"] == tmp_path / expected[7]


@pytest.mark.parametrize(
    "path",
    ["mine", "mine/seed1", "evaluation/CoOp/rn50_16shots/seed1", "x_16shots/seed1", "seed01"],
)
def test_no_place(path):
    assert "protocol" not in parse_run_path(f"/{path}")


def test_log_header_tells_backbone_and_epoch(tmp_path):
    head = "** Arguments **\nload_epoch: 50\n** Config **\nMODEL:\n  BACKBONE:\n    NAME: RN50\n"
    write(tmp_path / "log.txt", head + "    PATH: x\n" * 900 + block(6561))
    run = read_run(tmp_path)
    assert (run.backbone, run.load_epoch) == ("RN50", 50)


# ---- what is one method


def test_configs_are_not_mixed(tmp_path):
    both(tmp_path, "dtd", 1, 80, 60, "MMRL/a")
    both(tmp_path, "dtd", 2, 60, 40, "MMRL/b")
    grid = only(tmp_path)
    assert grid.methods == ("MMRL/a", "MMRL/b")
    assert grid.cell("dtd", "MMRL/a", "base").mean == 80
    assert grid.cell("dtd", "MMRL/b", "base").values == {2: 60}


def test_backbones_are_not_mixed(tmp_path):
    both(tmp_path, "dtd", 1, 80, 60, backbone="ViT-B/16")
    both(tmp_path, "dtd", 2, 60, 40, backbone="RN50")
    grid = only(tmp_path)
    assert grid.methods == ("MMRL on RN50", "MMRL on ViT-B/16")
    assert "MMRL was run on several backbones, which are kept apart: RN50, ViT-B/16" in grid.notes


def test_methods_on_unlike_backbones_say_so(tmp_path):
    both(tmp_path, "dtd", 1, 80, 60, backbone="ViT-B/16")
    both(tmp_path, "dtd", 1, 80, 60, "CoOp/b", backbone="RN50")
    both(tmp_path, "dtd", 1, 80, 60, "VPT/b")
    assert only(tmp_path).methods == ("CoOp on RN50", "MMRL on ViT-B/16", "VPT")


def test_an_unknown_backbone_joins_the_only_known_one(tmp_path):
    both(tmp_path, "dtd", 1, 80, 60, backbone="ViT-B/16")
    both(tmp_path, "dtd", 2, 60, 40)
    grid = only(tmp_path)
    assert grid.methods == ("MMRL",)
    assert grid.about["MMRL"].backbone == "ViT-B/16"


def test_epochs_are_not_mixed_in_a_cell(tmp_path):
    both(tmp_path, "dtd", 1, 80, 60)
    put(tmp_path, "train_base", "dtd", 2, 80)
    put(tmp_path, "test_new", "dtd", 2, 50, load_epoch=5)
    grid = only(tmp_path)
    assert grid.methods == ("MMRL", "MMRL (epoch 5)", "MMRL (epoch the last)")
    assert grid.cell("dtd", "MMRL (epoch 5)", "new").values == {2: 50}
    assert "different epochs" in grid.notes[0]


def test_validation_results_are_not_mixed_with_test(tmp_path):
    both(tmp_path, "dtd", 1, 80, 60, split="test")
    both(tmp_path, "dtd", 2, 90, 70, split="val")
    assert only(tmp_path).methods == ("MMRL", "MMRL (validation images)")


def test_imagenets_own_settings_join_the_others_and_are_noted(tmp_path):
    for cfg, dataset in (("a", "dtd"), ("b", "dtd"), ("a_imagenet", "imagenet")):
        both(tmp_path, dataset, 1, 80, 60, f"MMRL/{cfg}")
    both(tmp_path, "dtd", 1, 70, 50, "CoOp/ctx")
    both(tmp_path, "imagenet", 1, 70, 50, "CoOp/ep50")
    grid = only(tmp_path)
    assert grid.methods == ("CoOp", "MMRL/a", "MMRL/b")
    assert grid.complete("MMRL/a", "base") == ["dtd", "imagenet"]
    assert grid.cell("imagenet", "MMRL/b", "base").state == "missing"
    assert "MMRL: imagenet with the settings a_imagenet, other data sets with a" in grid.notes
    assert "CoOp: imagenet with the settings ep50, other data sets with ctx" in grid.notes


# ---- cells and averages


def test_states_of_cells(tmp_path):
    both(tmp_path, "dtd", 1, 80, 60)
    put(tmp_path, "train_base", "dtd", 2, 60)
    write(place(tmp_path / "base2new", "train_base", "eurosat", 1, "MMRL/a") / "log.txt", EPOCHS)
    bad = block(6561).replace("81.0", "71.0")
    write(place(tmp_path / "base2new", "test_new", "eurosat", 1, "MMRL/a") / "log.txt", bad)
    grid = only(tmp_path)
    states = {(d, p): grid.cell(d, "MMRL", p).state for d in grid.datasets for p in grid.parts}
    assert states == {
        **{("dtd", "base"): "complete", ("dtd", "new"): "partial", ("dtd", "HM"): "partial"},
        ("eurosat", "base"): "unfinished",
        **{("eurosat", "new"): "unreadable", ("eurosat", "HM"): "unreadable"},
    }
    assert grid.cell("dtd", "MMRL", "new").lacking == [2]
    assert grid.complete("MMRL", "base") == []  # base and new belong together


def test_hm_is_of_the_means_and_its_spread_over_seeds(tmp_path):
    both(tmp_path, "dtd", 1, 90, 30)  # HM 45
    both(tmp_path, "dtd", 2, 60, 60)  # HM 60
    cell = only(tmp_path).cell("dtd", "MMRL", "HM")
    assert cell.mean == pytest.approx(2 * 75 * 45 / 120)
    assert cell.values == {1: 45, 2: 60}
    assert cell.spread(Measure()) == 7.5


def test_average_over_seeds_and_data_sets(tmp_path):
    both(tmp_path, "dtd", 1, 90, 30)
    both(tmp_path, "dtd", 2, 60, 60)
    both(tmp_path, "eurosat", 1, 50, 70)
    both(tmp_path, "eurosat", 2, 40, 40)
    grid = only(tmp_path)
    base = grid.average("MMRL", "base", grid.datasets)
    assert (base.mean, base.values) == (60, {1: 70, 2: 50})
    hm = grid.average("MMRL", "HM", grid.datasets)
    assert hm.mean == pytest.approx(2 * 60 * 50 / 110)
    assert hm.values[1] == pytest.approx(2 * 70 * 50 / 120)
    assert hm.over == ("dtd", "eurosat")


# ---- differences


def test_differences_are_paired_by_seed(tmp_path):
    for seed, base, new in ((1, 80, 60), (2, 70, 50), (3, 10, 10)):
        both(tmp_path, "dtd", seed, base, new, "MMRL/a")
    for seed, base, new in ((1, 70, 40), (2, 40, 40)):
        both(tmp_path, "dtd", seed, base, new, "CoOp/b")
    both(tmp_path, "eurosat", 1, 50, 50, "MMRL/a")
    both(tmp_path, "eurosat", 2, 50, 50, "CoOp/b")
    grid = differences(only(tmp_path), "MMRL")
    label = "CoOp - MMRL"
    assert grid.methods == ("MMRL", label)
    assert grid.cell("dtd", label, "base").values == {1: -10, 2: -30}
    assert grid.cell("dtd", label, "base").mean == -20
    own, reference = 2 * 55 * 40 / 95, 2 * 75 * 55 / 130  # over seeds 1 and 2
    assert grid.cell("dtd", label, "HM").mean == pytest.approx(own - reference)
    assert grid.cell("dtd", "MMRL", "base").values[3] == 10
    assert grid.cell("eurosat", label, "base").state == "unpaired"
    assert grid.complete(label, "base") == ["dtd"]
    assert grid.average(label, "HM", ["dtd"]).mean == pytest.approx(own - reference)


def test_a_reference_must_be_one_method(tmp_path):
    for method in ("MMRL/a", "MMRL/b", "CoOp/c"):
        both(tmp_path, "dtd", 1, 80, 60, method)
    grids = [only(tmp_path)]
    assert find_method(grids, "coop") == ["CoOp"]
    assert find_method(grids, "MMRL/b") == ["MMRL/b"]
    with pytest.raises(ValueError, match="choose one of MMRL/a, MMRL/b"):
        find_method(grids, "MMRL")
    with pytest.raises(ValueError, match=r"only of CoOp, MMRL/a, MMRL/b; did you mean CoOp\?"):
        find_method(grids, "CoCoOp")


def test_a_seed_is_once_in_a_cell(tmp_path):
    for layout in ("A/c_16shots", "shots_16/A/c"):
        write(tmp_path / "few_shot/dtd" / layout / "seed1/results.json", results(6561))
    with pytest.raises(ValueError, match=r"c_16shots/seed1 and .*/c/seed1 are both seed 1"):
        grids_of(find_runs(tmp_path))
