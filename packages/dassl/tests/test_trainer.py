"""The life of a trainer, with a plugin written in the ecosystem's style."""

import re
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from dassl.engine import TRAINER_REGISTRY, TrainerX, build_trainer
from dassl.utils import load_checkpoint, set_random_seed

LINE = re.compile(
    r"epoch \[(\d+)/3\] batch \[(\d+)/4\] time \d+\.\d{3} \(\d+\.\d{3}\) "
    r"data \d+\.\d{3} \(\d+\.\d{3}\) loss (\d+\.\d{4}) \((\d+\.\d{4})\) "
    r"acc \d+\.\d{4} \(\d+\.\d{4}\) lr (\d\.\d{4}e[+-]\d\d) eta \d:\d\d:\d\d"
)


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


def checkpoints(cfg, model="learner"):
    folder = Path(cfg.OUTPUT_DIR) / model
    return sorted(path.name for path in folder.iterdir() if path.name != "checkpoint")


def test_attributes_after_building(make_cfg):
    cfg = make_cfg()
    trainer = build_trainer(cfg)
    assert trainer.cfg is cfg and trainer.device == torch.device("cpu")
    assert (trainer.start_epoch, trainer.epoch, trainer.max_epoch) == (0, 0, 3)
    assert trainer.output_dir == cfg.OUTPUT_DIR
    assert trainer.num_classes == 3 and trainer.num_source_domains == 0
    assert trainer.lab2cname == {0: "red", 1: "green", 2: "blue"}
    assert trainer.train_loader_x is trainer.dm.train_loader_x
    assert trainer.train_loader_u is None
    assert trainer.best_result == float("-inf")
    assert isinstance(trainer._models, OrderedDict)
    assert trainer.get_model_names() == ["learner"] == trainer.get_model_names("learner")
    with pytest.raises(ValueError, match="do you mean 'learner'"):
        trainer.get_model_names("lerner")
    with pytest.raises(ValueError, match="registered already"):
        trainer.register_model("learner", trainer.model)


def test_unknown_trainer_is_named_with_the_nearest(make_cfg):
    with pytest.raises(ValueError, match=r"TRAINER.NAME.*do you mean 'ToyTrainer'"):
        build_trainer(make_cfg("TRAINER.NAME", "toytraner"))


def test_training_learns_prints_saves_and_tests(make_cfg, capsys):
    cfg = make_cfg("OPTIM.MAX_EPOCH", 3, "TRAIN.CHECKPOINT_FREQ", 2)
    trainer = build_trainer(cfg)
    trainer.train()
    out = capsys.readouterr().out
    lines = [match.groups() for match in map(LINE.fullmatch, out.splitlines()) if match]
    assert [(int(epoch), int(batch)) for epoch, batch, *_ in lines] == [
        (epoch, batch) for epoch in (1, 2, 3) for batch in (2, 4)
    ]
    # the rate that was used, in the last batch of an epoch too
    assert [rate for *_, rate in lines] == ["1.0000e-05"] * 2 + ["1.0000e-02"] * 2 + [
        "7.5000e-03"
    ] * 2
    assert checkpoints(cfg) == ["model.pth.tar-2", "model.pth.tar-3"]
    assert "Finish training" in out and re.search(r"Elapsed: 0:00:\d\d", out)
    assert out.index("Evaluate on the *test* set") < out.index("=> result\n* total: 12\n")
    assert list((Path(cfg.OUTPUT_DIR) / "tensorboard").glob("events.*"))
    assert trainer.test() > 90


def test_every_batch_is_printed_when_there_are_few(make_cfg, capsys):
    build_trainer(make_cfg("TRAIN.PRINT_FREQ", 10, "OPTIM.MAX_EPOCH", 1)).train()
    assert capsys.readouterr().out.count(" eta ") == 4


def test_the_mean_is_of_all_batches_of_the_epoch(make_cfg, capsys):
    trainer = build_trainer(make_cfg("TRAIN.PRINT_FREQ", 4, "OPTIM.MAX_EPOCH", 1))
    seen = []
    original = trainer.forward_backward
    trainer.forward_backward = lambda batch: seen.append(original(batch)) or seen[-1]
    trainer.train()
    mean = sum(summary["loss"].item() for summary in seen) / 4
    assert f"({mean:.4f}) acc" in capsys.readouterr().out


def test_order_of_events(make_cfg):
    events = []

    class Recording(TRAINER_REGISTRY.get("ToyTrainer")):
        pass

    def recorded(name):
        def method(self, *args, **kwargs):
            events.append(name)
            return getattr(TRAINER_REGISTRY.get("ToyTrainer"), name)(self, *args, **kwargs)

        return method

    names = ["check_cfg", "build_data_loader", "build_model", "before_train", "before_epoch"]
    names += ["run_epoch", "after_epoch", "after_train", "test"]
    for name in names:
        setattr(Recording, name, recorded(name))
    Recording(make_cfg("OPTIM.MAX_EPOCH", 2)).train()
    epoch = ["before_epoch", "run_epoch", "after_epoch"]
    assert events == [*names[:4], *epoch, *epoch, "after_train", "test"]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_equals_an_uninterrupted_one(make_cfg, tmp_path, capsys, workers):
    options = ["TRAIN.CHECKPOINT_FREQ", 1, "DATALOADER.NUM_WORKERS", workers, "OPTIM.MAX_EPOCH", 4]
    options += ["OPTIM.NAME", "adamw"]
    whole = build_trainer(make_cfg(*options, "OUTPUT_DIR", str(tmp_path / "whole")))
    whole.train()

    cfg = make_cfg(*options, "OUTPUT_DIR", str(tmp_path / "parts"))
    first = build_trainer(cfg)
    first.before_epoch = lambda: first.epoch == 2 and (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        first.train()
    set_random_seed(99)  # a new process is in any state
    torch.rand(5)
    second = build_trainer(make_cfg(*options, "OUTPUT_DIR", str(tmp_path / "parts")))
    capsys.readouterr()
    second.train()
    out = capsys.readouterr().out
    assert second.start_epoch == 2
    assert "RESUMING after epoch 2" in out and "model.pth.tar-2" in out
    assert torch.equal(weights(second), weights(whole))
    assert second.get_current_lr() == whole.get_current_lr()
    assert second.sched.optimizer is second.optim


def test_testing_in_between_does_not_change_training(make_cfg, tmp_path):
    plain = build_trainer(make_cfg("OUTPUT_DIR", str(tmp_path / "a")))
    plain.train()
    tested = build_trainer(
        make_cfg("OUTPUT_DIR", str(tmp_path / "b"), "INPUT.TRANSFORMS", plain.cfg.INPUT.TRANSFORMS)
    )
    tested.after_epoch = lambda: (tested.test("val"), tested.test("test"))
    tested.train()
    assert torch.equal(weights(plain), weights(tested))


def test_a_finished_run_is_only_tested_again(make_cfg, capsys):
    build_trainer(make_cfg()).train()
    before = capsys.readouterr().out
    again = build_trainer(make_cfg())
    again.train()
    out = capsys.readouterr().out
    assert "RESUMING after epoch 3" in out and " eta " not in out
    assert before[before.index("=> result") :][:90] in out


def test_resume_from_a_folder_that_has_nothing(make_cfg, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"RESUME is .*'learner'"):
        build_trainer(make_cfg("RESUME", str(tmp_path / "nowhere"))).train()


def test_resume_of_another_configuration_says_so(make_cfg):
    build_trainer(make_cfg("OPTIM.MAX_EPOCH", 1)).train()
    trainer = build_trainer(make_cfg("INPUT.SIZE", (32, 32)))
    trainer.model.linear = torch.nn.Linear(5, 3)
    with pytest.raises(ValueError, match=r"model\.pth\.tar-1 does not fit.*another OUTPUT_DIR"):
        trainer.train()


def test_models_of_different_epochs_go_on_from_the_one_they_share(make_cfg):
    cfg = make_cfg()

    def two_models():
        trainer = build_trainer(cfg)
        trainer.register_model("second", torch.nn.Linear(2, 2))
        return trainer

    trainer = two_models()
    trainer.save_model(0, cfg.OUTPUT_DIR)
    trainer.save_model(1, cfg.OUTPUT_DIR)
    (Path(cfg.OUTPUT_DIR) / "second" / "model.pth.tar-2").unlink()  # killed in between
    assert two_models().resume_model_if_exist(cfg.OUTPUT_DIR) == 1
    assert build_trainer(cfg).resume_model_if_exist(cfg.OUTPUT_DIR) == 2

    trainer.save_model(1, cfg.OUTPUT_DIR, model_name="model-best.pth.tar")
    assert two_models().resume_model_if_exist(cfg.OUTPUT_DIR) == 2
    for name, epoch in (("learner", 5), ("second", 2)):  # the same name, but killed in between
        path = Path(cfg.OUTPUT_DIR) / name / "model-best.pth.tar"
        torch.save({**load_checkpoint(path), "epoch": epoch}, path)
    assert two_models().resume_model_if_exist(cfg.OUTPUT_DIR) == 1


def test_best_result_and_scaler_come_back(make_cfg):
    cfg = make_cfg()
    trainer = build_trainer(cfg)
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    trainer.best_result = 77.5
    trainer.save_model(0, cfg.OUTPUT_DIR)
    fresh = build_trainer(cfg)
    fresh.scaler = torch.amp.GradScaler("cpu")
    fresh.resume_model_if_exist(cfg.OUTPUT_DIR)
    assert fresh.best_result == 77.5
    assert fresh.scaler.get_scale() == 8.0


def test_best_val_saves_and_tests_the_best(make_cfg, capsys):
    cfg = make_cfg("TEST.FINAL_MODEL", "best_val")
    trainer = build_trainer(cfg)
    results = iter([50.0, 70.0, 60.0, 11.0])
    snapshots = []
    trainer.test = lambda split=None: snapshots.append(weights(trainer)) or next(results)
    trainer.train()
    assert trainer.best_result == 70.0
    assert checkpoints(cfg) == ["model-best.pth.tar", "model.pth.tar-3"]
    best = load_checkpoint(Path(cfg.OUTPUT_DIR) / "learner" / "model-best.pth.tar")
    assert (best["epoch"], best["val_result"]) == (2, 70.0)
    assert torch.equal(weights(trainer), snapshots[1])
    assert "val_result=70.0" in capsys.readouterr().out


def test_best_val_needs_validation_images(make_cfg):
    trainer = build_trainer(make_cfg("TEST.FINAL_MODEL", "best_val"))
    trainer.val_loader = None
    with pytest.raises(ValueError, match="no validation images"):
        trainer.train()


def test_no_test_trains_only(make_cfg, capsys):
    build_trainer(make_cfg("TEST.NO_TEST", True)).train()
    assert "=> result" not in capsys.readouterr().out


def test_load_model_honours_the_epoch_and_takes_the_newest_otherwise(make_cfg, capsys):
    cfg = make_cfg()
    trainer = build_trainer(cfg)
    saved = {}
    for epoch in (0, 8, 9):  # 10 is newer than 9, though not in the order of names
        with torch.no_grad():
            trainer.model.linear.bias.fill_(epoch)
        trainer.save_model(epoch, cfg.OUTPUT_DIR)
        saved[epoch + 1] = weights(trainer)
    other = build_trainer(cfg)
    other.load_model(cfg.OUTPUT_DIR, epoch=9)
    assert torch.equal(weights(other), saved[9])
    other.load_model(cfg.OUTPUT_DIR)
    assert torch.equal(weights(other), saved[10])
    assert "model.pth.tar-10 into learner (epoch=10)" in capsys.readouterr().out


def test_load_model_from_nothing_says_what_is_there(make_cfg, tmp_path, capsys):
    cfg = make_cfg()
    trainer = build_trainer(cfg)
    (tmp_path / "learner").mkdir()
    with pytest.raises(FileNotFoundError, match="no checkpoint at all"):
        trainer.load_model(str(tmp_path))
    trainer.save_model(4, str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"tar-7.*model\.pth\.tar-5"):
        trainer.load_model(str(tmp_path), epoch=7)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        trainer.load_model(str(tmp_path / "typo"))
    trainer.load_model("")
    assert "stays as it is" in capsys.readouterr().out


def test_a_model_of_another_shape_is_refused(make_cfg, tmp_path):
    trainer = build_trainer(make_cfg())
    trainer.save_model(0, str(tmp_path))
    trainer.model.linear = torch.nn.Linear(3 * 8 * 8, 7)
    with pytest.raises(ValueError, match="size mismatch"):
        trainer.load_model(str(tmp_path))


def test_a_loss_that_is_no_number_stops_the_run(make_cfg):
    trainer = build_trainer(make_cfg())
    with torch.no_grad():
        trainer.model.linear.weight.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match=r"epoch 1.*OPTIM\.LR"):
        trainer.train()
    assert not (Path(trainer.output_dir) / "learner").exists()


def test_a_reported_loss_that_is_no_number_stops_the_run(make_cfg):
    trainer = build_trainer(make_cfg("TRAIN.PRINT_FREQ", 3))  # the bad one is between two lines
    trainer.forward_backward = lambda batch: {
        "loss_kl": float("inf") if trainer.batch_idx == 3 else 1.0
    }
    with pytest.raises(FloatingPointError, match="'loss_kl'"):
        trainer.train()


def test_a_val_split_that_is_not_there_is_said(make_cfg, capsys):
    trainer = build_trainer(make_cfg())
    trainer.val_loader = None
    trainer.test(split="val")
    out = capsys.readouterr().out
    assert "TEST images are used instead" in out and "Evaluate on the *test* set" in out
    with pytest.raises(ValueError, match=r"TEST\.SPLIT.*'train'"):
        trainer.test(split="train")


def test_modes(make_cfg):
    trainer = build_trainer(make_cfg())
    trainer.set_model_mode("eval")
    assert not trainer.model.training
    trainer.set_model_mode("train", "learner")
    assert trainer.model.training
    trainer.set_model_mode("test")
    assert not trainer.model.training


def test_plugin_without_models_can_be_tested(make_cfg):
    class Constant(TrainerX):
        def build_model(self):
            pass

        def model_inference(self, image):
            return torch.eye(3)[torch.zeros(len(image), dtype=torch.long)]

    trainer = Constant(make_cfg())
    trainer.load_model("somewhere")
    assert trainer.test() == pytest.approx(100 / 3)


@pytest.mark.parametrize(("count", "batches"), [("train_x", 4), ("train_u", 9), ("smaller_one", 4)])
def test_trainer_xu(make_cfg, capsys, count, batches):
    options = ["TRAINER.NAME", "ToyTrainerXU", "DATASET.ALL_AS_UNLABELED", True]
    options += ["DATALOADER.TRAIN_U.SAME_AS_X", False, "DATALOADER.TRAIN_U.BATCH_SIZE", 2]
    trainer = build_trainer(make_cfg(*options, "OPTIM.MAX_EPOCH", 2, "TRAIN.COUNT_ITER", count))
    before = weights(trainer)
    trainer.train()
    assert trainer.num_batches == batches
    assert not torch.equal(weights(trainer), before)
    assert re.search(r"loss \S+ \(\S+\) entropy \S+ \(\S+\) lr", capsys.readouterr().out)


def test_trainer_xu_needs_unlabelled_images(make_cfg):
    with pytest.raises(ValueError, match="train_u is empty"):
        build_trainer(make_cfg("TRAINER.NAME", "ToyTrainerXU")).train()


class OnGPU(torch.Tensor):
    @property
    def device(self):
        return torch.device("cuda")


def test_a_loss_on_a_gpu_is_checked_when_it_is_read(make_cfg):
    trainer = build_trainer(make_cfg())
    for value in (1.0, float("nan"), 2.0):
        trainer.detect_anomaly(torch.tensor(value).as_subclass(OnGPU))
    with pytest.raises(FloatingPointError):
        trainer.raise_on_anomaly()
    trainer.raise_on_anomaly()  # said once


@pytest.mark.gpu
def test_training_on_a_gpu(make_cfg):
    trainer = build_trainer(
        make_cfg("USE_CUDA", True, "OPTIM.MAX_EPOCH", 2, "DATALOADER.NUM_WORKERS", 2)
    )
    trainer.train()
    assert next(trainer.model.parameters()).device.type == "cuda"
    with torch.no_grad():
        trainer.model.linear.bias.fill_(float("nan"))
    with pytest.raises(FloatingPointError):
        trainer.run_epoch()
