"""Checkpoints of a trainer: which are saved, resumed from and loaded."""

from pathlib import Path

import pytest
import torch

from dassl.engine import build_trainer
from dassl.utils import load_checkpoint, set_random_seed

from .toy_runs import checkpoints, weights


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
