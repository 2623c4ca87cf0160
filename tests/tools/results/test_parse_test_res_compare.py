"""parse_test_res.py: its formats, and comparisons with a trainer and with published numbers."""

import csv
import io
import json

import pytest

from parse_test_res import main
from tests.helpers.result_files import (
    EPOCHS,
    base_and_new,
    place,
    results,
    rows,
    seeds,
    trained,
    write,
)
from tools.results.published import table


@pytest.fixture
def tree(tmp_path):
    """Two trainers on two data sets; CoOp lacks one."""
    for dataset, shift in (("dtd", 0), ("eurosat", 10)):
        base_and_new(tmp_path, dataset, 1, 80 + shift, 60)
        base_and_new(tmp_path, dataset, 2, 82 + shift, 62)
    base_and_new(tmp_path, "dtd", 1, 70, 50, "CoOp/c")
    base_and_new(tmp_path, "dtd", 2, 74, 50, "CoOp/c")
    return tmp_path


def out(capsys, *arguments) -> str:
    assert main(list(map(str, arguments))) == 0
    return capsys.readouterr().out


def test_trainers_as_rows(tree, capsys):
    base = rows(out(capsys, tree, "--rows", "trainers").split("16 shots, new")[0])
    assert base["dtd"] == ["eurosat", "Average", "Average of 1 in common"]
    assert base["MMRL"] == ["81.00 ± 1.00", "91.00 ± 1.00", "86.00 ± 1.00", "81.00 ± 1.00"]
    assert base["CoOp"] == ["72.00 ± 2.00", "missing*", "72.00 ± 2.00 (1/2)†", "72.00 ± 2.00"]
    assert base["(k/n)†: over k of n data sets, not those of the others: see those in common"] == []


def test_csv_has_all_digits_and_nothing_else(tree, capsys):
    write(place(tree / "base2new", "test_new", "dtd", 2, "CoOp/c") / "results.json", "{")
    assert main([str(tree), "--format", "csv"]) == 0
    printed = capsys.readouterr()
    assert "warning: 1 of 12 runs unfinished" in printed.err
    lines = list(csv.DictReader(io.StringIO(printed.out)))
    found = {(x["dataset"], x["trainer"], x["part"]): x for x in lines}
    assert len(found) == len(lines) == (2 + 2) * 2 * 3
    hm = found["dtd", "MMRL", "HM"]
    assert float(hm["mean"]) == pytest.approx(2 * 81 * 61 / 142, abs=1e-12)
    assert (hm["seeds"], hm["state"], hm["cfg"], hm["shots"]) == ("2", "complete", "vit_b16", "16")
    partial = found["dtd", "CoOp", "new"]
    assert (partial["seeds"], partial["seeds_missing"], partial["state"]) == ("1", "2", "partial")
    assert found["eurosat", "CoOp", "new"]["mean"] == ""
    assert found["average", "CoOp", "base"]["datasets"] == "0"
    assert float(found["average", "MMRL", "base"]["mean"]) == 86


def test_json_holds_cells_and_runs(tree, capsys):
    write(place(tree / "base2new", "test_new", "dtd", 3) / "log.txt", EPOCHS)
    content = json.loads(out(capsys, tree, "--format", "json", "--against", "MMRL"))
    unfinished = [run for run in content["runs"] if run["state"] != "complete"]
    assert [run["reason"] for run in unfinished] == [
        "training did not finish, last seen in epoch 3 of 3"
    ]
    (cell,) = [
        x
        for x in content["cells"]
        if (x["dataset"], x["trainer"], x["part"]) == ("dtd", "CoOp", "base")
    ]
    assert (cell["difference_to"], cell["mean"], cell["std"]) == ("MMRL", -9, 1)
    assert "differences to MMRL are over the seeds both have" in content["notes"]


@pytest.mark.parametrize("format", ["github", "latex", "csv", "json"])
def test_experiments_in_every_format(tmp_path, capsys, format):
    seeds(tmp_path / "exp", 6561, 6723)
    printed = out(capsys, tmp_path / "exp", "--format", format)
    assert "82" in printed
    assert "outcome" not in printed


def test_latex_can_be_typeset(tree, capsys):
    base_and_new(tree, "fgvc_aircraft", 1, 40, 30)
    for line in out(capsys, tree, "--format", "latex").splitlines():
        if line and not line.startswith("%"):
            assert not set("±†") & set(line)
            assert line.replace(r"\_", "").count("_") == 0


def test_github_marks_are_no_lists(tree, capsys):
    printed = out(capsys, tree, "--format", "github")
    assert "|\n\n\\* incomplete" in printed
    assert "| eurosat" in printed


def test_differences_have_signs(tree, capsys):
    found = rows(out(capsys, tree, "--against", "mmrl").split("16 shots, new")[0])
    assert found["MMRL"] == ["CoOp - MMRL"]
    assert found["dtd"] == ["81.00 ± 1.00", "-9.00 ± 1.00"]
    assert found["Average"][1] == "-9.00 ± 1.00 (1/2)†"


def test_a_tree_without_the_reference_says_so(tree, capsys):
    write(tree / "few_shot/dtd/shots_1/CoOp/c/seed1/log.txt", trained(6561))
    printed = out(capsys, tree, "--against", "MMRL")
    assert "note: no differences: MMRL was not run here" in printed


# ---- published


def test_the_published_table_is_consistent():
    # printed so: not the HM of what is beside it
    odd = {("MMA", "ucf101"), ("MMRL", "dtd"), ("GDA", "average")}
    for key, found in table().items():
        assert 0 < found.value < 100
        if key[-1] == "hm" and (key[0], key[2]) not in odd:
            base, new = (table()[(*key[:-1], half)].value for half in ("base", "new"))
            assert found.value == pytest.approx(2 * base * new / (base + new), abs=0.02)
    assert table()["MMRL", "base2new", "eurosat", 16, "new"].value == 80.17
    assert table()["MMRL++(rerun-AMP)", "base2new", "eurosat", 16, "new"].source


def compare(capsys, root, *arguments) -> dict[str, list[str]]:
    return rows(out(capsys, root, "--published", *arguments))


def test_published_differences_and_marks(tmp_path, capsys):
    # paper: 85.67 / 65.00; rerun in mixed precision: see the table
    for seed, base, new in ((1, 85.57, 70), (2, 85.77, 70.2), (3, 85.97, 70.1)):
        base_and_new(tmp_path, "dtd", seed, base, new)
    found = compare(capsys, tmp_path)
    assert found["MMRL"][0] == "85.77 ± 0.16 [+0.10]"
    assert found["MMRL"][1] == "70.10 ± 0.08 [+5.10]!"
    rerun = table()["MMRL(rerun-AMP)", "base2new", "dtd", 16, "base"].value
    found = compare(capsys, tmp_path, "--published-row", "rerun-AMP")
    assert found["MMRL"][0].startswith(f"85.77 ± 0.16 [{85.77 - rerun:+.2f}]")
    assert "EuroSAT" not in out(capsys, tmp_path, "--published")


def test_published_says_which_row_and_what_is_known_of_eurosat(tmp_path, capsys):
    base_and_new(tmp_path, "eurosat", 1, 95, 70)
    base_and_new(tmp_path, "eurosat", 1, 95, 70, "MMRLPlus/a")
    base_and_new(tmp_path, "eurosat", 1, 95, 70, "VPT/a")
    printed = out(capsys, tmp_path, "--published")
    assert "published for MMRL: row MMRL, the paper's numbers, read in " in printed
    assert "published for MMRLPlus: row MMRL++(rerun-AMP), read in " in printed
    assert "published for VPT: nothing of VPT in this protocol" in printed
    assert "standard deviation of 5.05" in printed
    assert rows(printed)["MMRL"][1] == "70.00 [-10.17]"  # one seed: no mark
    assert rows(printed)["VPT"][1] == "70.00"


def test_published_averages_are_over_the_same_data_sets(tmp_path, capsys):
    datasets = {key[2] for key in table() if key[:2] == ("MMRL", "base2new")} - {"average"}
    for dataset in datasets:
        base, new = (table()["MMRL", "base2new", dataset, 16, m].value for m in ("base", "new"))
        base_and_new(tmp_path, dataset, 1, base, new)
    assert compare(capsys, tmp_path)["Average"] == [
        "85.68 [+0.00]",
        "77.16 [+0.00]",
        "81.20 [+0.00]",
    ]
    unfinished = place(tmp_path / "base2new", "test_new", "dtd", 1)
    (unfinished / "results.json").unlink()
    assert all("[" not in cell for cell in compare(capsys, tmp_path)["Average of 10/11"])


def test_other_backbones_are_not_compared(tmp_path, capsys):
    base_and_new(tmp_path, "dtd", 1, 80, 60, backbone="RN50")
    printed = out(capsys, tmp_path, "--published")
    assert rows(printed)["MMRL"] == ["80.00", "60.00", "68.57"]
    assert "nothing with the backbone RN50; published numbers are of ViT-B/16" in printed


def test_cross_dataset_and_domain_generalisation_have_their_tables(tmp_path, capsys):
    for split, dataset, percent in (
        ("train_source", "imagenet", 72.03),
        ("test_target", "dtd", 46.0),
        ("test_target", "imagenetv2", 64.0),
    ):
        folder = place(tmp_path / "cross_dataset", split, dataset, 1)
        write(folder / "results.json", results(round(100 * percent), 10_000))
    published = [
        table()["MMRL", protocol, dataset, 16, "acc"].value
        for protocol, dataset in (("cross_dataset", "dtd"), ("domain_generalization", "imagenetv2"))
    ]
    printed = out(capsys, tmp_path, "--published")
    assert f"46.00 [{46 - published[0]:+.2f}]" in printed
    assert f"64.00 [{64 - published[1]:+.2f}]" in printed


# ---- exit status and messages


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--against", "MMLR"], "did you mean MMRL?"),
        (["--published", "--metric", "error"], "--published has accuracies only, no error"),
    ],
)
def test_wrong_comparisons_are_status_2(tree, capsys, arguments, message):
    assert main([str(tree), *arguments]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.out == ""


def test_strict_is_status_1_for_unfinished_runs(tree, capsys):
    assert main([str(tree), "--strict"]) == 0
    write(place(tree / "base2new", "test_new", "dtd", 3) / "log.txt", EPOCHS)
    assert main([str(tree)]) == 0
    assert main([str(tree), "--strict"]) == 1


def test_experiments_below_are_found_without_a_flag(tmp_path, capsys):
    seeds(tmp_path / "a" / "exp", 6561, 6723)
    seeds(tmp_path / "b" / "exp", 7290)
    printed = out(capsys, tmp_path)
    assert f"outcome of directory: {tmp_path}/a/exp (2 of 2 runs)" in printed
    assert f"outcome of directory: {tmp_path}/b/exp (1 of 1 runs)" in printed
    assert "average over" not in printed
