"""What a run leaves: results.json, predictions.csv, classes.json, TensorBoard scalars."""

import csv
import json
from types import SimpleNamespace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import train
from common import __version__
from dassl.data.datasets import Datum
from run.data_hashes import few_shot_hash
from run.details import write_predictions
from run.record import forget_results
from run.recorder import RunRecorder
from run.schema import Record
from tests.helpers.plugin_files import forgotten  # noqa: F401
from tests.helpers.toy_run import CLASSES, SAVE, build, classify, command, refused
from tests.run.test_plugins import TRAINER, tiles  # noqa: F401
from tests.run.test_plugins import command as plugin_command

pytestmark = pytest.mark.usefixtures("forgotten")


def run(arguments, folder) -> dict:
    assert train.main(arguments) == 0
    return json.loads((folder / "results.json").read_text())


def read_predictions(folder) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def trained(toy, tmp_path_factory):
    """The folder and the record of a finished run."""
    folder = tmp_path_factory.mktemp("record") / "run"
    opts = (*SAVE, "TRAIN.CHECKPOINT_FREQ", "1")
    return folder, run(command(toy, "MMRL", folder, opts=opts), folder)


def test_classes_and_predictions_are_those_of_the_method(trained, toy):
    folder, record = trained
    trainer = build(command(toy, "MMRL", folder))
    trainer.load_model(str(folder))
    probabilities = classify(trainer).softmax(dim=1)
    items = trainer.dm.dataset.test
    rows = read_predictions(folder)
    assert record["predictions"] == "predictions.csv" and len(rows) == len(items) == 9
    assert list(rows[0]) == ["impath", "label", "prediction", "probability"]
    for row, item, p in zip(rows, items, probabilities, strict=True):
        assert item.impath == str(toy / "colored_shapes" / row["impath"])
        assert int(row["label"]) == item.label
        assert int(row["prediction"]) == p.argmax()
        assert torch.tensor(float(row["probability"])) == p.max()  # to the last digit
    right = [row["label"] for row in rows if row["label"] == row["prediction"]]
    assert record["per_class"] == [
        {"label": label, "name": CLASSES[label], "total": 3, "correct": right.count(str(label))}
        for label in range(3)
    ]
    assert record["correct"] == len(right)


def test_time_memory_and_size(trained):
    _, record = trained
    assert record["seconds"] > record["train_seconds"] > 0
    assert record["images_per_second"]["train"] == pytest.approx(12 / record["train_seconds"])
    assert record["images_per_second"]["test"] > 0
    assert record["peak_memory_bytes"] > 1 << 20 and record["peak_memory_kind"]
    assert record["device"] and record["commit"] and record["seed"] == 1
    assert record["resumed_from_epoch"] == 0 and not record["eval_only"]


def test_the_record_has_its_schema(trained):
    record = trained[1]
    assert set(record) <= set(Record.__annotations__)
    assert set(record) >= set(Record.__annotations__) - {"not_finite", "perclass_accuracy"}
    assert record["version"] == __version__


def test_parameters_are_those_that_are_trained(trained, toy, tmp_path):
    folder, record = trained
    (file,) = folder.glob("*/model.pth.tar-2")
    state = torch.load(file, weights_only=True)["state_dict"]
    assert record["parameters"] == sum(t.numel() for t in state.values())
    averaged = run(command(toy, "PromptSRC", tmp_path), tmp_path)  # registers its average too
    (file,) = tmp_path.glob("VLPromptLearner/model.pth.tar-2")
    state = torch.load(file, weights_only=True)["state_dict"]
    assert averaged["parameters"] == sum(t.numel() for t in state.values())


def test_classes_are_written_down(trained):
    content = json.loads((trained[0] / "classes.json").read_text(encoding="utf-8"))
    assert content == {"classnames": list(CLASSES[:3]), "template": "a photo of a {}."}


def test_eval_only_records_what_applies(trained, toy, tmp_path):
    flags = ("--eval-only", "--model-dir", str(trained[0]), "--load-epoch", "2")
    opts = (*SAVE, "DATASET.SUBSAMPLE_CLASSES", "new")
    record = run(command(toy, "MMRL", tmp_path, *flags, opts=opts), tmp_path)
    assert record["eval_only"] and record["load_epoch"] == 2
    for key in ("train_seconds", "few_shot_hash", "shots_short", "resumed_from_epoch"):
        assert record[key] is None
    assert record["images_per_second"]["train"] is None
    assert [c["name"] for c in record["per_class"]] == list(CLASSES[3:])
    assert record["parameters"] == trained[1]["parameters"]
    assert len(read_predictions(tmp_path)) == 9


def test_testing_in_the_folder_of_training_leaves_what_was_trained(toy, tmp_path, capsys):
    run(command(toy, "MMRL", tmp_path), tmp_path)
    names = ("config.yaml", "classes.json", "identity.json")
    kept = [(tmp_path / name).read_text() for name in names]
    flags = ("--eval-only", "--model-dir", str(tmp_path))
    opts = ("DATASET.SUBSAMPLE_CLASSES", "new")
    arguments = command(toy, "MMRL", tmp_path, *flags, opts=opts)
    message = refused(capsys, arguments)  # the result of training is not replaced
    assert "DATASET.SUBSAMPLE_CLASSES: base there, new now" in message
    assert "delete its results.json" in message
    (tmp_path / "results.json").unlink()
    assert run(arguments, tmp_path)["classes"] == "new"
    assert kept == [(tmp_path / name).read_text() for name in names]


def test_a_loader_that_shuffles_anew_gives_no_predictions(toy, tmp_path, capsys):
    trainer = build(command(toy, "ZeroshotCLIP", tmp_path, opts=SAVE))
    recorder = RunRecorder(trainer, start=0.0)
    trainer.register_hook(recorder)
    trainer.test()
    assert recorder.tested() == trainer.dm.dataset.test
    trainer.test_loader.sampler.sampler = list(reversed(range(9)))
    assert recorder.tested() is None and write_predictions(recorder, tmp_path) is None
    assert "No predictions.csv" in capsys.readouterr().out


def test_names_that_are_not_utf8_do_not_end_a_run(tmp_path):
    """A plugin's data set may have them."""
    node = SimpleNamespace
    cfg = node(TEST=node(SAVE_PREDICTIONS=True), DATASET=node(ROOT=str(tmp_path)))
    trainer = node(cfg=cfg, dm=node(dataset=node(dataset_dir="d")))
    items = [Datum(f"{tmp_path}/d/caf\udce9.png", 0)]
    recorder = node(trainer=trainer, tested=lambda: items, predictions=lambda: ([0], [1], [0.5]))
    assert write_predictions(recorder, tmp_path)
    assert (tmp_path / "predictions.csv").read_text().splitlines()[1] == r"caf\udce9.png,0,1,0.5"


def test_a_result_outlives_what_goes_wrong_after_it(toy, tmp_path, monkeypatch):
    def few_shot_hash(trainer):
        raise RuntimeError("no details")

    monkeypatch.setattr("run.details.few_shot_hash", few_shot_hash)
    with pytest.raises(RuntimeError, match="no details"):
        train.main(command(toy, "MMRL", tmp_path))
    record = json.loads((tmp_path / "results.json").read_text())
    assert record["complete"] and record["total"] == 9 and record["load_epoch"] is None
    assert "per_class" not in record


def test_zero_shot_trains_nothing(toy, tmp_path):
    record = run(command(toy, "ZeroshotCLIP", tmp_path), tmp_path)
    assert record["parameters"] == 0 and record["train_seconds"] is None
    assert record["predictions"] is None and not (tmp_path / "predictions.csv").exists()


def test_predictions_follow_the_order_of_the_sampler(toy, tmp_path):
    opts = (*SAVE, "DATALOADER.TEST.SAMPLER", "RandomSampler", "DATALOADER.TEST.BATCH_SIZE", "2")
    run(command(toy, "ZeroshotCLIP", tmp_path, opts=opts), tmp_path)
    rows = read_predictions(tmp_path)
    assert [row["impath"] for row in rows] != sorted(row["impath"] for row in rows)
    for row in rows:
        assert row["impath"].split("/")[1] == CLASSES[int(row["label"])].replace(" ", "_")


@pytest.mark.parametrize(
    ("trainer", "opts", "split", "total"),
    [
        ("ZeroshotCLIP", ("TEST.SPLIT", "val"), "val", 6),
        ("MMRL", ("TEST.FINAL_MODEL", "best_val"), "test", 9),  # not those on the way
    ],
)
def test_the_split_of_the_final_test_counts(trainer, opts, split, total, toy, tmp_path):
    record = run(command(toy, trainer, tmp_path, opts=(*SAVE, *opts)), tmp_path)
    assert record["split"] == split and record["total"] == total
    assert all(f"/{split}_" in row["impath"] for row in read_predictions(tmp_path))


def test_a_trainer_that_tests_on_validation_pictures_by_itself(toy, tmp_path):
    trainer = build(command(toy, "ZeroshotCLIP", tmp_path))
    recorder = RunRecorder(trainer, start=0.0)
    trainer.register_hook(recorder)
    trainer.test("val")
    assert (recorder.results["split"], recorder.results["total"]) == ("val", 6)
    assert recorder.tested() == trainer.dm.dataset.val


def test_a_continued_run_adds_up_its_time(toy, tmp_path):
    arguments = command(toy, "MMRL", tmp_path, opts=("TRAIN.CHECKPOINT_FREQ", "1"))
    first = run(arguments, tmp_path)
    folder = tmp_path / "MultiModalRepresentationLearner"
    (folder / "model.pth.tar-2").unlink()
    spent = torch.load(folder / "model.pth.tar-1", weights_only=True)["hooks"]["RunRecorder"]
    assert 0 < spent["train_seconds"] < spent["seconds"] < first["seconds"]
    assert spent["train_batches"] == 2
    record = run(arguments, tmp_path)
    assert record["resumed_from_epoch"] == 1
    assert record["train_seconds"] > spent["train_seconds"]
    assert record["seconds"] > spent["seconds"] + record["train_seconds"] - spent["train_seconds"]
    speed = record["images_per_second"]["train"]
    assert speed == pytest.approx(12 / record["train_seconds"])  # of both epochs


@pytest.mark.filterwarnings("ignore")  # of what plugins of that age call
def test_a_plugin_that_returns_one_number(tiles, tmp_path):  # noqa: F811
    flags = ("--plugin", str(TRAINER), "--plugin", str(TRAINER.with_name("tiles.py")))
    opts = (*SAVE, "DATASET.SUBSAMPLE_CLASSES", "all")
    record = run(plugin_command(tiles, tmp_path, *flags, opts=opts), tmp_path)
    assert record["trainer"] == "WordPrompt" and record["parameters"] > 0
    rows = read_predictions(tmp_path)
    assert record["correct"] == sum(row["label"] == row["prediction"] for row in rows)
    assert [row["impath"].split("/")[0] for row in rows] == ["images"] * 4
    assert sum(c["correct"] for c in record["per_class"]) == record["correct"]
    assert record["few_shot_hash"] and record["train_seconds"] > 0
    assert json.loads((tmp_path / "classes.json").read_text())["template"] is None


# The few-shot list


def listed(root, *items, folder="set"):
    data = SimpleNamespace(
        dataset_dir=f"{root}/{folder}",
        train_x=[Datum(f"{root}/{folder}/{path}", label) for path, label in items],
    )
    cfg = SimpleNamespace(DATASET=SimpleNamespace(ROOT=str(root)))
    return few_shot_hash(SimpleNamespace(dm=SimpleNamespace(dataset=data), cfg=cfg))


def test_the_hash_is_of_pictures_and_labels_alone():
    one = listed("/data", ("a/1.jpg", 0), ("b/1.jpg", 1))
    assert one == listed("/elsewhere", ("b/1.jpg", 1), ("a/1.jpg", 0))
    assert one != listed("/data", ("a/1.jpg", 0), ("b/2.jpg", 1))
    assert one != listed("/data", ("a/1.jpg", 1), ("b/1.jpg", 0))
    assert listed("/data", ("caf\u00e9.jpg", 0)) == listed("/data", ("cafe\u0301.jpg", 0))
    assert listed("/data", ("\udcff.jpg", 0))  # a name that is no text


def test_seeds_and_class_halves_have_hashes_of_their_own(toy, tmp_path, trained):
    again = few_shot_hash(build(command(toy, "CoOp", tmp_path)))
    other = few_shot_hash(build(command(toy, "CoOp", tmp_path, opts=("SEED", "2"))))
    assert again == trained[1]["few_shot_hash"] != other


# TensorBoard


def test_scalars(trained):
    events = EventAccumulator(str(trained[0] / "tensorboard")).Reload()
    terms = {"ce_class", "ce_rep", "reg_image", "reg_text", "loss", "acc", "lr", "epoch"}
    tests = {"test/accuracy", "test/error_rate", "test/macro_f1"}
    assert set(events.Tags()["scalars"]) == {f"train/{t}" for t in terms} | tests
    last = {term: events.Scalars(f"train/{term}")[-1].value for term in terms}
    parts = sum(last[term] for term in ("ce_class", "ce_rep", "reg_image", "reg_text"))
    assert parts == pytest.approx(last["loss"], rel=1e-5)
    assert [e.value for e in events.Scalars("train/epoch")] == [0.5, 1, 1.5, 2]
    assert events.Scalars("test/accuracy")[0].value == pytest.approx(trained[1]["accuracy"])


def test_forgotten_together(tmp_path):
    for name in ("results.json", "predictions.csv", "config.yaml"):
        (tmp_path / name).touch()
    forget_results(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["config.yaml"]
