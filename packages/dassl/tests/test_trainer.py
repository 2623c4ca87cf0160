"""The life of a trainer, with a plugin written in the ecosystem's style."""

import re
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from dassl.engine import TRAINER_REGISTRY, Hook, TrainerX, build_trainer
from dassl.evaluation import EVALUATOR_REGISTRY
from dassl.utils import load_checkpoint

from .toy_runs import checkpoints, weights

LINE = re.compile(
    r"epoch \[(\d+)/3\] batch \[(\d+)/4\] time \d+\.\d{3} \(\d+\.\d{3}\) "
    r"data \d+\.\d{3} \(\d+\.\d{3}\) loss (\d+\.\d{4}) \((\d+\.\d{4})\) "
    r"acc \d+\.\d{4} \(\d+\.\d{4}\) lr (\d\.\d{4}e[+-]\d\d) eta \d:\d\d:\d\d"
)


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


def test_testing_in_between_does_not_change_training(make_cfg, tmp_path):
    plain = build_trainer(make_cfg("OUTPUT_DIR", str(tmp_path / "a")))
    plain.train()
    tested = build_trainer(
        make_cfg("OUTPUT_DIR", str(tmp_path / "b"), "INPUT.TRANSFORMS", plain.cfg.INPUT.TRANSFORMS)
    )
    tested.after_epoch = lambda: (tested.test("val"), tested.test("test"))
    tested.train()
    assert torch.equal(weights(plain), weights(tested))


def test_no_test_trains_only(make_cfg, capsys):
    build_trainer(make_cfg("TEST.NO_TEST", True)).train()
    assert "=> result" not in capsys.readouterr().out


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


def test_the_ancestry_of_a_trainer_is_short():
    assert [c.__name__ for c in TrainerX.__mro__[:-1]] == [
        *("TrainerX", "SimpleTrainer", "TrainerBase")
    ]


def test_hooks_hear_of_every_event(make_cfg):
    events = []

    class Listening(Hook):
        def state_dict(self):
            return {"heard": len(events)}

    def listening(name):
        return lambda self, trainer, *args: events.append(name)

    names = [name for name in vars(Hook) if name.startswith(("before", "after"))]
    for name in names:
        setattr(Listening, name, listening(name))
    trainer = build_trainer(make_cfg("OPTIM.MAX_EPOCH", 1, "DATALOADER.TEST.BATCH_SIZE", 12))
    trainer.register_hook(Listening())
    trainer.train()
    test = ["before_test", "before_evaluation", "after_prediction", "before_results"]
    assert events == [
        *("before_train", "before_epoch", *["before_batch", "after_batch"] * 4, "after_epoch"),
        *("before_save", *test, "after_results", "after_train"),
    ]
    state = load_checkpoint(Path(trainer.output_dir) / "learner" / "model.pth.tar-1")
    assert state["hooks"]["Listening"] == {"heard": 12}


def test_an_evaluator_is_observed_once_and_keeps_what_is_set_on_it(make_cfg):
    trainer = build_trainer(make_cfg())
    inner = trainer.evaluator.evaluator
    trainer.evaluator.note = "kept"
    trainer.evaluator = trainer.evaluator
    assert inner.note == "kept" and trainer.evaluator.evaluator is inner


def test_an_evaluator_of_ones_own_and_a_test_of_ones_own_reach_the_hooks(make_cfg, monkeypatch):
    class Mean:
        def __init__(self, cfg, **kwargs):
            self.name = "mean"

        def reset(self):
            self.found = []

        def process(self, mo, gt):
            self.found.append(mo.mean().item())

        def evaluate(self):
            return {"mean": sum(self.found)}

    class Recording(Hook):
        results = None

        def after_results(self, trainer, results):
            self.results = results

    monkeypatch.setitem(EVALUATOR_REGISTRY._objects, "Mean", Mean)
    trainer = build_trainer(make_cfg("TEST.EVALUATOR", "Mean"))
    hook = Recording()
    trainer.register_hook(hook)
    assert isinstance(trainer.evaluator.evaluator, Mean)
    trainer.evaluator = Mean(trainer.cfg)  # as a plugin may do in its __init__
    trainer.evaluator.reset()
    for batch in trainer.test_loader:  # as a plugin's test() does
        trainer.evaluator.process(trainer.model(batch["img"]), batch["label"])
    found = trainer.evaluator.evaluate()
    assert hook.results is found and trainer.evaluator.name == "mean"
