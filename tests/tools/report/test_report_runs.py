"""python -m tools.report: single runs in full, whatever their files hold; figures."""

import base64
import json
import re
import struct
from xml.etree import ElementTree

import pandas as pd
import pytest
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

from tests.helpers.report_files import run_folder, write_config, write_run, write_scalars
from tests.helpers.report_page import accuracy, report
from tests.helpers.result_files import write
from tools.report.material import classes_of, read_confusion, read_curves, weakest
from tools.report.plots import look, printable, training_figures

HOSTILE = "<script>alert(1)</script> $x_{1$ \x01 \u30c6 '\"&"


def test_one_run_with_everything(tree):
    folder = write_scalars(write_run(run_folder(tree, "train_base", "dtd", "MMRL", 1)), [9, 19])
    page = report(folder, "--plots", str(tree.parent / "plots"))
    assert "1 run, 1 complete" in page.text
    per_class = page.tables["Accuracy per class"]
    assert [row[0] for row in per_class] == ["class", "red circle", "blue square", "green star"]
    record = json.loads((folder / "results.json").read_text())
    entry = record["per_class"][0]
    assert per_class[1][1:4] == [f"{5 * entry['correct']:.1f}", str(entry["correct"]), "20"]
    confusion = next(table for title, table in page.tables.items() if title.startswith("Confusion"))
    assert confusion[1][1] == f"{5 * entry['correct']}"
    shown = dict(zip(*page.tables["Cost"], strict=True))
    assert shown["training"] == "31.0 s" and shown["peak memory"] == "1.87 GiB"
    assert shown["parameters"] == "4,000" and shown["test images/s"] == "800"
    assert ["torch", "2.15.0"] in page.tables["Environment"]
    names = {path.name.rpartition("seed1_")[2] for path in (tree.parent / "plots").iterdir()}
    assert names == {
        *("loss_terms.svg", "training_accuracy_in.svg", "learning_rate.svg", "confusion.svg")
    }


def test_names_that_are_code_are_shown_as_text(tree):
    trainer = HOSTILE.replace("/", "_")
    folder = run_folder(tree, "few_shot", "$d_{<b>", trainer, 1)
    write_run(folder, classes=(HOSTILE, "b"), device=HOSTILE, few_shot_hash="<i>")
    write_config(folder, OPTIM__NAME="<u>")
    write_scalars(folder, [1, 2])
    accuracy(run_folder(tree, "few_shot", "$d_{<b>", "MMRL", 1), 500)
    page = report(tree, "--plots", str(tree.parent / "plots"))
    assert [attributes for tag, attributes in page.tags if tag == "script"] == [{}]
    assert not {"b", "i", "u"} & {tag for tag, _ in page.tags}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert HOSTILE.replace("\x01", "\ufffd") in "".join(page.words)
    images = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    drawn = [base64.b64decode(source.partition(",")[2]).decode() for source in images]
    assert all(ElementTree.fromstring(svg) is not None for svg in drawn)
    assert "$d_{&lt;b&gt;" in drawn[0]


def test_nothing_comes_from_elsewhere(tree):
    write_scalars(write_run(run_folder(tree, "few_shot", "dtd", "MMRL", 1)), [1, 2])
    page = report(tree)
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "srcset"):
            value = attributes.get(name, "#")
            assert value.startswith(("#", "data:,", "data:image/svg+xml;")), (tag, attributes)
    assert any("default-src 'none'" in (a.get("content") or "") for _, a in page.tags)
    identifiers = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(identifiers)) == len(identifiers)


def test_few_runs_in_full_unless_asked(tree):
    for seed in (1, 2, 3):
        for method in ("CoOp", "MMRL"):
            write_run(run_folder(tree, "few_shot", "dtd", method, seed))

    def shown(*flags: str) -> list[str]:
        tags = report(tree, *flags).tags
        return [attributes["id"] for tag, attributes in tags if tag == "article"]

    page = report(tree, "--details", "2")
    heads = [attributes["value"] for tag, attributes in page.tags if tag == "option"]
    assert len(heads) == 2 and "2 of 6 runs are on this page" in page.text
    assert "CoOp vit_b16, seed 1" in page.text and "MMRL vit_b16, seed 1" in page.text
    assert len(shown("--details", "2", "--run", "MMRL/*/seed*")) == 3
    assert len(shown("--details", "all")) == len(shown()) == 6
    assert shown("--details", "0") == []


def test_the_weakest_classes_of_many(tree):
    classes = [f"kind {i}" for i in range(12)]
    folder = write_run(run_folder(tree, "few_shot", "dtd", "MMRL", 1), classes)
    page = report(folder, "--classes", "5")
    record = json.loads((folder / "results.json").read_text())
    worst = sorted(record["per_class"], key=lambda entry: (entry["correct"], entry["label"]))[:5]
    named = [row[0] for row in page.tables["Accuracy per class"][1:]]
    assert sorted(named) == sorted(entry["name"] for entry in worst)
    assert "The 5 weakest of 12 classes; all of them: --classes all" in page.text
    confusion = next(table for title, table in page.tables.items() if title.startswith("Confusion"))
    assert confusion[0][-1] == "all others" and len(confusion) == 6
    assert len(report(folder, "--classes", "all").tables["Accuracy per class"]) == 13


def test_files_that_cannot_be_read(tree, capsys):
    folder = write_run(run_folder(tree, "few_shot", "dtd", "MMRL", 1), per_class=[{"label": 0}])
    write(folder / "config.yaml", "a: [")
    write(folder / "predictions.csv", "impath,label\n0.jpg,1\n")
    write(folder / "tensorboard" / "events.out.tfevents.1.x", b"\xff" * 64)
    page = report(tree, status=1)
    errors = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in errors] == ["could not be read"] * 3
    assert "3 files that could not be read" in page.text
    assert page.tables["dtd, 16 shots (1 seed)"][1][0] == "MMRL"


# ---- event files


def test_a_resumed_run_has_one_curve(tmp_path):
    write_scalars(tmp_path, range(0, 50, 5), suffix=".z")  # interrupted behind step 45
    old = next((tmp_path / "tensorboard").iterdir())
    old.rename(old.with_name("events.out.tfevents.9999999999.z"))  # the time in a name says nothing
    write_scalars(tmp_path, range(30, 80, 10), value=0.5)  # continued from step 30
    curves, notes = read_curves(tmp_path / "tensorboard")
    steps = [*range(0, 30, 5), *range(30, 80, 10)]
    assert list(curves["train/lr"].index) == steps and not notes
    expected = [0.001 / (1 + s / 50) * (1 if s < 30 else 0.5) for s in steps]
    assert list(curves["train/lr"]) == pytest.approx(expected)


def test_damaged_event_files(tmp_path):
    file = next((write_scalars(tmp_path, range(100)) / "tensorboard").iterdir())
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    curves, notes = read_curves(tmp_path / "tensorboard")
    assert 10 < len(curves["train/loss"]) < 60 and not notes
    record = b"\xff" * 16  # whole, and no event
    length = struct.pack("<Q", len(record))
    sums = [struct.pack("<I", masked_crc32c(part)) for part in (length, record)]
    file.write_bytes(whole + length + sums[0] + record + sums[1])
    curves, notes = read_curves(tmp_path / "tensorboard")
    assert len(curves["train/loss"]) == 100 and "damaged" in notes[0]
    file.write_bytes(b"no events at all, but some text")
    curves, notes = read_curves(tmp_path / "tensorboard")
    assert curves == {} and "no scalars could be read" in notes[0]
    assert read_curves(tmp_path / "nowhere") == ({}, [])


# ---- predictions


def test_predictions_are_counted(tmp_path):
    rows = 'a.jpg,0,0,0.9\nb.jpg,0,2,0.5\n"c,d.jpg",0,2,0.5\ne.jpg,1,1,0.7\n'
    file = write(tmp_path / "p.csv", f"impath,label,prediction,probability\n{rows}")
    confusion = read_confusion(file)
    assert confusion.to_numpy().tolist() == [[1, 0, 2], [0, 1, 0], [0, 0, 0]]
    counted = classes_of({}, confusion)
    assert counted.index.tolist() == [0, 1]
    assert counted.name.tolist() == ["class 0", "class 1"]
    assert (counted.correct.tolist(), counted.total.tolist()) == ([1, 1], [3, 1])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "impath,label,prediction,probability\n",
        "impath,label\na,1\n",
        "impath,label,prediction\na,1,-2\n",
        "impath,label,prediction\na,1,x\n",
        "impath,label,prediction\na,1\n",
        "\0\0\0",
    ],
)
def test_other_files_are_no_predictions(tmp_path, text):
    with pytest.raises(ValueError):
        read_confusion(write(tmp_path / "p.csv", text))


@pytest.mark.parametrize(
    "entries",
    [
        "all",
        [7],
        [{"label": 0, "name": "a", "total": 1}],
        [{"label": 0, "name": "a", "total": 1, "correct": 2}],
        [{"label": 0, "name": "a", "total": True, "correct": 0}],
        [{"label": "0", "name": "a", "total": 1, "correct": 1}],
    ],
)
def test_impossible_classes_are_refused(entries):
    with pytest.raises(ValueError):
        classes_of({"per_class": entries}, None)


def test_the_weakest_classes_have_images():
    counts = ((0, 10, 9), (1, 10, 2), (2, 10, 5), (3, 0, 0))  # label, total, correct
    keys = ("label", "total", "correct")
    entries = [dict(zip(keys, row, strict=True)) | {"name": None} for row in counts]
    classes = classes_of({"per_class": entries}, None)
    assert weakest(classes, 2).index.tolist() == [1, 2]
    assert weakest(classes, None).index.tolist() == [0, 1, 2, 3]


# ---- figures


def relative_luminance(color: str) -> float:
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_colors_are_legible_and_looks_differ():
    looks = [look(number) for number in range(24)]
    assert all(1.05 / (relative_luminance(one["color"]) + 0.05) >= 4.5 for one in looks)
    assert len({str(tuple(one.values())) for one in looks}) == 24


def test_training_figures_by_what_they_show():
    curve = pd.Series([1.0, float("nan")], index=[0, 1])
    tags = ("train/epoch", "train/loss", "train/ce", "train/lr", "train/acc", "val/accuracy")
    single = pd.Series([80.0], index=[9])
    figures = training_figures(dict.fromkeys(tags, curve) | {"test/accuracy": single})
    names = ["loss terms", "training accuracy in %", "learning rate", "val set"]
    assert list(figures) == names
    axis = figures["val set"].axes[0]
    assert list(axis.get_lines()[0].get_xdata()) == [1, 2], "epochs count from 1"


def test_training_is_drawn_over_epochs_where_they_are_known():
    loss, epoch = pd.Series([2.0, 1.0], index=[19, 39]), pd.Series([0.5, 1.0], index=[19, 39])
    axis = training_figures({"train/loss": loss, "train/epoch": epoch})["loss terms"].axes[0]
    assert axis.get_xlabel() == "epoch" and list(axis.get_lines()[0].get_xdata()) == [0.5, 1.0]
    axis = training_figures({"train/loss": loss})["loss terms"].axes[0]
    assert axis.get_xlabel() == "step" and list(axis.get_lines()[0].get_xdata()) == [19, 39]


def test_long_curves_are_thinned_and_keep_their_end():
    axis = training_figures({"train/loss": pd.Series(range(1000))})["loss terms"].axes[0]
    drawn = axis.get_lines()[0].get_xdata()
    assert len(drawn) == 200 and drawn[-1] == 999


def test_places_of_a_figure_are_rounded_and_words_are_not(tree):
    write_scalars(write_run(run_folder(tree, "few_shot", "dtd", "0.123456", 1)), [1, 2])
    report(tree, "--plots", str(tree.parent / "plots"))
    for file in (tree.parent / "plots").iterdir():
        assert not re.search(r'[ "]\d+\.\d{3,}[ "]', file.read_text())


def test_text_that_no_file_could_hold():
    assert printable("a\x00b\udcffc\ufffe") == "a\ufffdb?c\ufffd"
