"""python -m tools.report: what stands on the page of single runs, whatever they hold."""

import json

from tests.helpers.report_files import run_folder, write_config, write_run, write_scalars
from tests.helpers.report_page import accuracy, report
from tests.helpers.result_files import trained, write

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
