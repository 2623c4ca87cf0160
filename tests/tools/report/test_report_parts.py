"""The parts of the report: event files, predictions, settings, figures as SVG."""

import re
import struct
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

from tests.helpers.report_files import run_folder, write_config, write_run, write_scalars
from tests.helpers.result_files import write
from tools.report.plots import look, training_panels
from tools.report.predictions import Answers, class_results, read_answers, weakest
from tools.report.scalars import Curve, read_curves
from tools.report.settings import along, differing, read_settings
from tools.report.svg import FAINT, INK, PAPER, SERIES, inline, printable, standalone, style
from tools.results import Run


def relative_luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(a: str, b: str) -> float:
    """WCAG's contrast ratio."""
    low, high = sorted((relative_luminance(a), relative_luminance(b)))
    return (high + 0.05) / (low + 0.05)


# ---- event files


def test_a_resumed_run_has_one_curve(tmp_path):
    write_scalars(tmp_path, range(0, 50, 5), suffix=".a")  # interrupted behind step 45
    write_scalars(tmp_path, range(30, 80, 10), value=0.5, suffix=".b")  # continued from step 30
    curves, notes = read_curves(tmp_path / "tensorboard")
    steps = (*range(0, 30, 5), *range(30, 80, 10))
    assert curves["train/lr"].steps == steps and not notes
    expected = [0.001 / (1 + s / 50) * (1 if s < 30 else 0.5) for s in steps]
    assert curves["train/lr"].values == pytest.approx(expected)
    assert set(curves) == {
        *("train/loss", "train/ce_class", "train/reg_image", "train/acc", "train/lr"),
        "test/accuracy",
    }


def test_files_join_by_time_and_not_by_name(tmp_path):
    write_scalars(tmp_path, [0, 10, 20], suffix=".z")
    old = next((tmp_path / "tensorboard").iterdir())
    write_scalars(tmp_path, [10, 20], value=0.5)
    old.rename(old.with_name("events.out.tfevents.9999999999.z"))
    curves, _ = read_curves(tmp_path / "tensorboard")
    assert curves["train/loss"].values == pytest.approx([3, 1.5 / 1.2, 1.5 / 1.4])


def test_long_curves_are_thinned_and_keep_their_end(tmp_path):
    write_scalars(tmp_path, range(1000))
    curve = read_curves(tmp_path / "tensorboard", longest=100)[0]["train/loss"]
    assert len(curve.steps) == 100 and curve.steps[-1] == 999 and curve.length == 1000


def test_damaged_event_files(tmp_path):
    file = next((write_scalars(tmp_path, range(100)) / "tensorboard").iterdir())
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    curves, notes = read_curves(tmp_path / "tensorboard")
    assert 10 < len(curves["train/loss"].steps) < 60 and not notes
    file.write_bytes(b"no events at all, but some text")
    curves, notes = read_curves(tmp_path / "tensorboard")
    assert curves == {} and "no scalars could be read" in notes[0]
    assert read_curves(tmp_path / "nowhere") == ({}, [])


def test_an_event_file_with_a_record_that_is_no_event(tmp_path):
    file = next((write_scalars(tmp_path, range(3)) / "tensorboard").iterdir())
    record = b"\xff" * 16
    length = struct.pack("<Q", len(record))
    sums = [struct.pack("<I", masked_crc32c(part)) for part in (length, record)]
    whole = file.read_bytes()
    file.write_bytes(whole + length + sums[0] + record + sums[1])
    curves, notes = read_curves(tmp_path / "tensorboard")
    assert curves["train/loss"].steps == (0, 1, 2) and [str(file) in n for n in notes] == [True]


# ---- predictions


def test_answers_are_counted(tmp_path):
    rows = 'a.jpg,0,0,0.9\nb.jpg,0,2,0.5\n"c,d.jpg",0,2,0.5\ne.jpg,1,1,0.7\n'
    answers = read_answers(
        write(tmp_path / "p.csv", f"impath,label,prediction,probability\n{rows}")
    )
    assert answers.counts == Counter({(0, 0): 1, (0, 2): 2, (1, 1): 1})
    assert answers.labels == [0, 1, 2] and answers.mistakes() == [(0, 2, 2)]
    counted = class_results({}, answers)
    assert [(r.name, r.correct, r.total) for r in counted] == [("class 0", 1, 3), ("class 1", 1, 1)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "impath,label,prediction,probability\n",
        "impath,label\na,1\n",
        "impath,label,prediction\na,1,-2\n",
        "impath,label,prediction\na,1,\u0661\n",
        "impath,label,prediction\na,1\n",
        "\0\0\0",
    ],
)
def test_other_files_are_no_predictions(tmp_path, text):
    with pytest.raises(ValueError):
        read_answers(write(tmp_path / "p.csv", text))


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
        class_results({"per_class": entries}, None)


def test_the_weakest_classes_have_pictures():
    counts = Counter({(0, 0): 9, (0, 1): 1, (1, 1): 2, (1, 0): 8, (2, 2): 5, (2, 1): 5})
    results = class_results({}, Answers(counts))
    empty = results[0]._replace(label=3, total=0, correct=0)
    assert [r.label for r in weakest([*results, empty], 2)] == [1, 2]
    assert [r.label for r in weakest([*results, empty], None)] == [0, 1, 2, 3]


# ---- settings


def runs_with(root: Path, values: dict[tuple[str, int], float]) -> list[tuple[Run, str]]:
    return [
        (Run(root, "complete", dataset=dataset, shots=shots), str(value))
        for (dataset, shots), value in values.items()
    ]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({("dtd", 1): 5, ("eurosat", 1): 5}, "5"),
        ({("dtd", 1): 5, ("dtd", 2): 5, ("eurosat", 1): 0.1}, "0.1 (eurosat), 5 (dtd)"),
        ({("dtd", 1): 5, ("dtd", 2): 9, ("eurosat", 1): 5}, "5 (1), 9 (2)"),
        ({("dtd", 1): 5, ("dtd", 2): 9, ("eurosat", 1): 9}, "5 (1 runs), 9 (2 runs)"),
    ],
)
def test_along_what_a_setting_varies(tmp_path, values, text):
    assert along(runs_with(tmp_path, values)) == text


def test_what_differs_by_plan_is_no_difference(tmp_path):
    found = []
    for seed, trainer in ((1, "CoOp"), (2, "MMRL")):
        folder = write_run(run_folder(tmp_path, "few_shot", "dtd", trainer, seed))
        write_config(folder, **{f"TRAINER__{trainer}__OWN": 3, "TRAINER__NAME": trainer})
        found.append((Run(folder, "complete", trainer=trainer), read_settings(folder)))
    assert differing(found, lambda run: run.trainer) == {}


def test_settings_that_cannot_be_read(tmp_path):
    for text in ("a: [", "- 1", "\x00", "!!python/object:os.system {}"):
        write(tmp_path / "config.yaml", text)
        with pytest.raises(ValueError):
            read_settings(tmp_path)


# ---- figures


def test_colours_are_legible_in_both_schemes():
    for scheme in (0, 1):
        assert contrast(INK[scheme], PAPER[scheme]) >= 7
        for series in SERIES:
            assert contrast(series[scheme], PAPER[scheme]) >= 4.5
    looks = [tuple(look(number).values()) for number in range(24)]
    assert len(set(map(str, looks))) == 24


def small_figure(title: str) -> Figure:
    figure = Figure(figsize=(3, 2))
    axis = figure.add_subplot()
    axis.plot([0, 1], [0.0012345, 0.0023456], color=SERIES[0][0], marker="o")
    axis.set_title(title)
    return figure


def test_a_figure_for_the_page_takes_the_page_s_colours():
    with style():
        svg = str(inline(small_figure("a $x_{1$ <b> & \u30c6"), 'say "so"'))
    root = ElementTree.fromstring(svg)
    assert root.get("aria-label") == 'say "so"' and root.get("width") is None
    assert "a $x_{1$ <b> & \u30c6" in [text.text for text in root.findall(".//{*}text")]
    assert "var(--ink)" in svg and "var(--series-0)" in svg and "var(--paper)" in svg
    assert not re.search(": #[0-9a-f]{6}", svg), "a colour that no scheme changes"
    targets = {use.get("href")[1:] for use in root.findall(".//{*}use")}
    assert targets and targets <= {element.get("id") for element in root.iter()}
    assert FAINT[0] not in svg and "<style" not in svg and "metadata" not in svg


def test_a_figure_for_a_file_stands_alone():
    with style():
        svg = standalone(small_figure("numbers 0.123456"))
    assert "var(" not in svg and SERIES[0][0] in svg and PAPER[0] in svg
    assert "numbers 0.123456" in svg, "words are not rounded"
    assert "0.0012" in svg and not re.search(r'[ "]\d+\.\d{3,}[ "]', svg), "places are"


def test_training_panels_by_what_they_show():
    curve = Curve((0, 1), (1.0, float("nan")), 2)
    tags = ("train/epoch", "train/loss", "train/ce", "train/lr", "train/acc", "val/accuracy")
    single = Curve((9,), (80.0,), 1)
    panels = training_panels(dict.fromkeys(tags, curve) | {"test/accuracy": single})
    names = ["loss terms", "training accuracy in %", "learning rate", "val set"]
    assert list(panels) == names
    axis = panels["val set"].axes[0]
    assert list(axis.get_lines()[0].get_xdata()) == [1, 2], "epochs count from 1"


def test_training_is_drawn_over_epochs_where_they_are_known():
    loss, epoch = Curve((19, 39), (2.0, 1.0), 2), Curve((19, 39), (0.5, 1.0), 2)
    axis = training_panels({"train/loss": loss, "train/epoch": epoch})["loss terms"].axes[0]
    assert axis.get_xlabel() == "epoch" and list(axis.get_lines()[0].get_xdata()) == [0.5, 1.0]
    axis = training_panels({"train/loss": loss})["loss terms"].axes[0]
    assert axis.get_xlabel() == "step" and list(axis.get_lines()[0].get_xdata()) == [19, 39]


def test_text_that_no_file_could_hold():
    assert printable("a\x00b\udcffc\ufffe") == "a\ufffdb?c\ufffd"
