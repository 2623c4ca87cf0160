"""parse_test_res.py: the tables of trees of runs, worked out by hand."""

from parse_test_res import main
from tests.helpers.result_files import base_and_new, block, place, rows, trained, write


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


def test_new_classes_of_a_method_that_knows_its_training_classes_alone(tmp_path, capsys):
    """Nothing is missing there, and its base average is over all datasets."""
    for dataset in ("dtd", "eurosat"):
        base_and_new(tmp_path, dataset, 1, 70, 60)
        run = place(tmp_path / "base2new", "train_base", dataset, 1, "TipAdapter/small")
        write(run / "log.txt", trained(6000))
    assert main([str(tmp_path / "base2new"), "--strict"]) == 0
    printed = capsys.readouterr().out
    assert "incomplete" not in printed and "missing" not in printed
    assert "-: learned by example, the method knows the classes of training alone" in printed
    base, new, hm = (rows(part) for part in printed.split("16 shots, ")[1:])
    assert base["Average"] == ["70.00", "74.07"]
    assert new["dtd"] == new["Average"] == ["60.00", "-"]
    assert hm["Average"][1] == "-"
