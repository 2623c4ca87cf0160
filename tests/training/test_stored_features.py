"""Image features are computed once, and no number changes."""

import json
import os

import pytest
import torch

import train
from tests.helpers.toy_run import SAVE, build, command, state_of, write_clips, write_pictures
from training import stored_features
from training.feature_fit import image_features
from training.feature_store import ENDING, FeatureStore, directory_for


@pytest.fixture
def own_toy(tmp_path):
    """Images and CLIPs whose store nobody else uses."""
    write_pictures(tmp_path / "toy")
    write_clips(tmp_path / "toy")
    return tmp_path / "toy"


@pytest.fixture
def decoded(monkeypatch):
    """The images that a loader has read, one after another."""
    read = []
    original = torch.utils.data.DataLoader.__iter__

    def counting(loader):
        for batch in original(loader):
            if batch["img"].dim() == 4:
                read.extend(batch["impath"])
            yield batch

    monkeypatch.setattr(torch.utils.data.DataLoader, "__iter__", counting)
    return read


def files(toy):
    return sorted((toy / ".features").glob(f"*{ENDING}"))


def result(arguments, output):
    assert train.main(arguments) == 0
    record = json.loads((output / "results.json").read_text())
    return record, (output / "predictions.csv").read_text()


@pytest.mark.parametrize("name", ["ZeroshotCLIP", "CoOp", "CoCoOp"])
@pytest.mark.parametrize("precision", ["fp32", "amp"])
def test_results_are_those_without_a_store(name, precision, own_toy, tmp_path, decoded):
    node = build(command(own_toy, name, tmp_path / "x")).node
    opts = (*SAVE, f"TRAINER.{node}.PREC", precision, "USE_CUDA", "False")
    found = {}
    for store in ("off", "auto", "again"):
        output = tmp_path / store
        more = ("FEATURES.STORE", "off") if store == "off" else ()
        before = len(decoded)
        record, predictions = result(command(own_toy, name, output, opts=(*opts, *more)), output)
        found[store] = (record["accuracy"], record["macro_f1"], predictions)
        assert record["features_were_stored"] is (store == "again")
        tested = [p for p in decoded[before:] if os.path.basename(p).startswith("test_")]
        assert len(tested) == (0 if store == "again" else 9)
    assert found["off"] == found["auto"] == found["again"]
    assert len(files(own_toy)) == 1


def test_methods_share_what_the_images_and_clip_determine(own_toy, tmp_path):
    for name in ("ZeroshotCLIP", "CoOp"):
        build(command(own_toy, name, tmp_path / name)).test()
    assert len(files(own_toy)) == 1
    opts = ("SEED", "2", "DATALOADER.TEST.BATCH_SIZE", "100")
    trainer = build(command(own_toy, "CoOp", tmp_path / "b", opts=opts))
    trainer.test()
    assert trainer.features_were_stored and len(files(own_toy)) == 1
    for opts in (
        ("DATASET.SUBSAMPLE_CLASSES", "new"),
        ("DATALOADER.TEST.BATCH_SIZE", "2"),  # no multiple of the parts
        ("TRAINER.COOP.PREC", "amp", "USE_CUDA", "False"),
        ("INPUT.EXIF_ORIENTATION", "apply"),
    ):
        before = len(files(own_toy))
        trainer = build(command(own_toy, "CoOp", tmp_path / "c", opts=opts))
        trainer.test()
        assert not trainer.features_were_stored and len(files(own_toy)) == before + 1
    assert not build(command(own_toy, "MMRL", tmp_path / "d")).method.reads_features()


def test_a_changed_image_is_computed_again(own_toy, tmp_path):
    trainer = build(command(own_toy, "CoOp", tmp_path / "a"))
    trainer.test()
    image = next(own_toy.rglob("test_0.png"))
    os.utime(image, (1, 1))
    trainer.test()
    assert not trainer.features_were_stored
    trainer.test()
    assert trainer.features_were_stored


@pytest.mark.parametrize("harm", ["cut", "other", "empty", "bits"])
def test_a_damaged_file_is_computed_again(harm, own_toy, tmp_path, capsys):
    trainer = build(command(own_toy, "CoOp", tmp_path / "a"))
    expected = trainer.test()
    (file,) = files(own_toy)
    good = file.read_bytes()
    bits = good[:-1] + bytes([good[-1] ^ 1])
    file.write_bytes({"cut": good[:-40], "other": b"x" * 99, "empty": b"", "bits": bits}[harm])
    capsys.readouterr()
    assert trainer.test() == expected and not trainer.features_were_stored
    assert "computed again" in capsys.readouterr().out
    assert trainer.test() == expected and trainer.features_were_stored


def test_the_unused_longest_go(tmp_path):
    store = FeatureStore(tmp_path / "s", most=3000)
    for number in range(4):
        store.write({"number": number}, torch.full((250, 1), float(number)))  # 1,000 bytes
        for entry in store.entries():
            age = entry.description["number"] if entry.description["number"] else 50
            os.utime(entry.path, (age, age))
    assert {entry.description["number"] for entry in store.entries()} <= {0, 2, 3}
    assert sum(entry.size for entry in store.entries()) <= 3000
    store.write({"number": 9}, torch.zeros(1000, 1))
    assert store.read({"number": 9}) is None


def test_who_may_read_the_images_may_read_the_features(tmp_path):
    before = os.umask(0o022)
    try:
        FeatureStore(tmp_path / "s", most=3000).write({}, torch.zeros(2, 1))
    finally:
        os.umask(before)
    (file,) = (tmp_path / "s").iterdir()
    assert file.stat().st_mode & 0o777 == 0o644


def test_where_nothing_can_be_written_it_is_gone_without(own_toy, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(stored_features, "directory_for", lambda root: tmp_path / "file" / "below")
    (tmp_path / "file").write_text("")
    trainer = build(command(own_toy, "CoOp", tmp_path / "a"))
    trainer.test()
    assert "are not kept in" in capsys.readouterr().out


def test_the_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert directory_for(tmp_path) == tmp_path / ".features"
    assert directory_for(None) == tmp_path / "cache" / "mmrl" / "features"
    monkeypatch.setattr("os.access", lambda *_: False)
    assert directory_for(tmp_path) == tmp_path / "cache" / "mmrl" / "features"


def test_a_plugin_that_does_it_otherwise_gets_images(own_toy, tmp_path):
    trainer = build(command(own_toy, "CoOp", tmp_path / "a"))

    class Other(type(trainer)):
        def model_inference(self, images):
            assert images.dim() == 4
            return super().model_inference(images)

    trainer.__class__ = Other
    trainer.test()
    assert not files(own_toy)


@pytest.mark.parametrize("hook", ["frozen_features", "parse_batch_test"])
def test_what_a_plugin_makes_of_images_is_kept_for_nobody(hook, own_toy, tmp_path):
    """Not even of training images, to which a method is fitted."""
    trainer = build(command(own_toy, "TipAdapter", tmp_path / "a"))
    original = getattr(type(trainer), hook)
    other = {hook: lambda self, given: original(self, given)}
    trainer.__class__ = type("Other", (type(trainer),), other)
    trainer.train()
    assert not files(own_toy)


def test_a_method_with_features_of_its_own_gets_images(own_toy, tmp_path):
    trainer = build(command(own_toy, "CoOp", tmp_path / "a"))

    class Other(type(trainer.method)):
        def frozen_features(self, images):
            assert images.dim() == 4
            return super().frozen_features(images)

    trainer.method.__class__ = Other
    trainer.test()
    assert not Other.reads_features() and not files(own_toy)


def test_what_is_kept_is_listed_and_dropped(own_toy, tmp_path, capsys):
    from tools.data.__main__ import main

    build(command(own_toy, "CoOp", tmp_path / "a")).test()
    (file,) = files(own_toy)
    capsys.readouterr()
    assert main(["features", "list", "--root", str(own_toy)]) == 0
    listed = capsys.readouterr().out
    assert file.stem in listed and "ColoredShapes, 9 images" in listed
    assert main(["features", "drop", "nothing", "--root", str(own_toy)]) == 2
    assert "there is no such" in capsys.readouterr().err and file.exists()
    assert main(["features", "drop", "--root", str(tmp_path / "none")]) == 2
    assert "is no directory" in capsys.readouterr().err and file.exists()
    assert main(["features", "drop", file.stem, "--root", str(own_toy)]) == 0
    assert not file.exists()


PLAIN = ("INPUT.TRANSFORMS", "['normalize']", "DATALOADER.NUM_WORKERS", "0")


def test_training_on_features_equals_training_on_images(own_toy, tmp_path):
    """Where all views are alike; the order of images is that of training on images."""
    on_images = build(command(own_toy, "CoOp", tmp_path / "a", opts=PLAIN))
    on_images.train()
    opts = (*PLAIN, "FEATURES.VIEWS", "2")
    on_features = build(command(own_toy, "CoOp", tmp_path / "b", opts=opts))
    on_features.train()
    for name, value in state_of(on_images).items():
        assert (value - state_of(on_features)[name]).abs().max() < 1e-6


def test_views_come_by_turns_and_are_computed_once(own_toy, tmp_path, decoded):
    opts = ("FEATURES.VIEWS", "2", "OPTIM.MAX_EPOCH", "3")
    states = []
    for run in ("a", "b"):
        trainer = build(command(own_toy, "CoOp", tmp_path / run, opts=opts))
        trainer.train()
        states.append(state_of(trainer)["context"])
        assert len(decoded) == 2 * 6 + 9
        views = trainer.train_loader_x.dataset.views
        assert len(views) == 2 and not torch.allclose(*views)
        assert trainer.train_loader_x.dataset.epoch == 2
    assert torch.equal(*states)
    more = ("OPTIM.MAX_EPOCH", "5")
    resumed = build(command(own_toy, "CoOp", tmp_path / "a", opts=(*opts, *more)))
    resumed.train()
    assert resumed.start_epoch == 3


@pytest.mark.parametrize("name", ["MMRL", "ZeroshotCLIP"])
def test_methods_that_take_more_of_an_image_refuse(name, own_toy, tmp_path):
    with pytest.raises(ValueError, match=r"FEATURES.VIEWS is 2, but .* leave it 0"):
        build(command(own_toy, name, tmp_path, opts=("FEATURES.VIEWS", "2")))


def test_other_weights_than_those_of_the_file_are_another_clip(own_toy, tmp_path):
    build(command(own_toy, "ZeroshotCLIP", tmp_path / "a")).test()
    trainer = build(command(own_toy, "ZeroshotCLIP", tmp_path / "b"))
    with torch.no_grad():
        trainer.clip.clip.visual.proj += 0.1
    trainer.test()
    assert not trainer.features_were_stored and len(files(own_toy)) == 2
    again = build(command(own_toy, "ZeroshotCLIP", tmp_path / "c"))
    again.test()
    assert again.features_were_stored


def test_views_of_runs_without_a_seed_are_drawn_and_not_kept(own_toy, tmp_path):
    trainer = build(command(own_toy, "CoOp", tmp_path))
    trainer.cfg.defrost()
    trainer.cfg.SEED = -1
    views = [image_features(trainer, trainer.dm.dataset.train_x, view=0).f for _ in range(2)]
    assert not torch.allclose(*views) and not files(own_toy)


def test_test_images_are_no_training_images(own_toy, tmp_path):
    trainer = build(command(own_toy, "CoOp", tmp_path))
    trainer.dm.dataset._train_x = trainer.dm.dataset.test
    with pytest.raises(
        ValueError, match=r"9 of 9 training images of ColoredShapes are test images"
    ):
        trainer.train()


def test_a_step_of_a_plugin_that_moves_the_rate_once_an_epoch(own_toy, tmp_path):
    opts = ("OPTIM.LR_SCHEDULER", "cosine_per_step", "OPTIM.WARMUP_EPOCH", "0")
    trainer = build(command(own_toy, "CoOp", tmp_path, opts=opts))

    class Other(type(trainer)):
        def forward_backward(self, batch):
            images, labels = self.parse_batch_train(batch)
            loss = sum(self.step(images, labels)[0].values())
            self.model_backward_and_update(loss)
            if self.batch_idx + 1 == self.num_batches:
                self.update_lr()
            return {"loss": loss}

    trainer.__class__ = Other
    with pytest.raises(ValueError, match=r"moved its rate 1 times in 2 steps: set it to cosine"):
        trainer.train()
