"""python -m tools.report: what stands on the page for trees of many kinds."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.report_files import run_folder, write_config, write_run, write_scalars
from tests.result_files import EPOCHS, results, trained, write
from tools.report.__main__ import main
from tools.report.notices import notices
from tools.report.selection import Choice
from tools.report.settings import read_settings
from tools.report.task import Task
from tools.results import Measure, find_runs

HOSTILE = "<script>alert(1)</script> $x_{1$ \x01 \u30c6 '\"&"
VOID = {"meta", "link"}


class Reader(HTMLParser):
    """Tables by title, with the text of their cells; all tags; all text outside of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.tags: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self._title = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)
        if tag in ("h2", "figcaption"):
            self._title = ""
        elif tag == "table":
            self.tables[self._title] = []
        elif tag == "tr":
            self.tables[self._title].append([])
        elif tag in ("td", "th"):
            self.tables[self._title][-1].append("")

    def handle_endtag(self, tag):
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data):
        inside = set(self._open)
        if inside & {"script", "style"}:
            return
        self.words.append(data)
        if inside & {"h2", "figcaption"}:
            self._title += data
        elif inside & {"td", "th"}:
            self.tables[self._title][-1][-1] += data.strip("\n")

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))


def report(root: Path, *flags: str, status: int = 0) -> Reader:
    page = root.parent / "report.html"
    assert main([str(root), "-o", str(page), *flags]) == status
    return Reader(page.read_text(encoding="utf-8"))


def accuracy(folder: Path, correct: int, **changes: object) -> Path:
    """A run with `correct` of 1,000 pictures right and nothing else to show."""
    write(folder / "results.json", results(correct, 1000, **changes))
    return folder


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return tmp_path / "output"


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
    cost = page.tables["Cost"]
    shown = dict(zip(*cost, strict=True))
    assert shown["training"] == "31.0 s" and shown["peak memory"] == "1.87 GiB"
    assert shown["parameters"] == "4,000" and shown["test images/s"] == "800"
    assert ["torch", "2.15.0"] in page.tables["Environment"]
    names = {path.name.rpartition("seed1_")[2] for path in (tree.parent / "plots").iterdir()}
    assert names == {
        *("loss_terms.svg", "training_accuracy_in.svg", "learning_rate.svg", "confusion.svg")
    }


def test_records_of_older_runs_and_logs_of_others(tree):
    accuracy(run_folder(tree, "train_base", "dtd", "MMRL", 1), 800)
    write(run_folder(tree, "train_base", "dtd", "CoOp", 1) / "log.txt", trained(6561))
    write(tree / "elsewhere" / "seed1" / "log.txt", trained(6561))
    page = report(tree)
    assert "Accuracy per class is not recorded" in page.text
    assert "No confusion" in page.text and "No training curves" in page.text
    assert "3 of 3 runs have no readable config.yaml" in page.text
    assert "2 of 3 runs have no results.json" in page.text
    assert "1 run outside of every protocol's folders" in page.text
    assert page.tables["dtd, 16 shots (1 seed)"][1][:2] == ["CoOp", "81.00"]
    assert page.tables["Cost"][1][4:] == ["–"] * 6


def test_only_unfinished_runs(tree):
    write(run_folder(tree, "few_shot", "dtd", "MMRL", 1) / "log.txt", "started\n")
    page = report(tree)
    assert page.tables["dtd (1 seed)"][1] == ["MMRL", "unfinished"]
    assert "1 run, 0 complete" in page.text


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


def test_nothing_comes_from_elsewhere(tree):
    write_run(run_folder(tree, "few_shot", "dtd", "MMRL", 1))
    page = report(tree)
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "srcset"):
            assert attributes.get(name, "#").startswith(("#", "data:,")), (tag, attributes)
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

    assert len(shown()) == 6
    page = report(tree, "--details", "2")
    heads = [attributes["value"] for tag, attributes in page.tags if tag == "option"]
    assert len(heads) == 2 and "2 of 6 runs are on this page" in page.text
    assert "CoOp vit_b16, seed 1" in page.text and "MMRL vit_b16, seed 1" in page.text
    assert len(shown("--details", "2", "--run", "MMRL/*/seed*")) == 3
    assert len(shown("--details", "all")) == 6
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


def test_debug_and_an_interrupt(tmp_path, monkeypatch, capsys):
    with pytest.raises(FileNotFoundError):
        main([str(tmp_path), "--debug"])

    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("tools.report.__main__.find_runs", interrupted)
    assert main([str(tmp_path)]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_files_that_cannot_be_read(tree, capsys):
    folder = write_run(run_folder(tree, "few_shot", "dtd", "MMRL", 1), per_class=[{"label": 0}])
    write(folder / "config.yaml", "a: [")
    write(folder / "predictions.csv", "impath,label\n0.jpg,1\n")
    write(folder / "tensorboard" / "events.out.tfevents.1.x", b"\xff" * 64)
    page = report(tree, status=1)
    errors = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in errors] == ["could not be read"] * 4
    assert "4 files that could not be read" in page.text
    assert page.tables["dtd (1 seed)"][1][0] == "MMRL"


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
