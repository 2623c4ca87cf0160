"""What is no number is refused: in files that are loaded, and as a result."""

import math
from pathlib import Path

import pytest
import torch

from dassl.config import get_cfg_default
from dassl.engine import build_trainer
from dassl.engine.hooks import check_weights
from dassl.evaluation import EVALUATOR_REGISTRY, Classification, build_evaluator
from dassl.utils import load_checkpoint, load_pretrained_weights
from dassl.utils.finite import not_finite

from .test_distributed import plain, spread  # noqa: F401
from .toy_runs import ALWAYS, checkpoints, cut_off, kill_in, weights

BAD = (math.nan, math.inf, -math.inf)


def changed(file, change):
    content = load_checkpoint(file)
    change(content)
    torch.save(content, file)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("value", BAD)
def test_tensors_are_named_and_counted(dtype, value):
    large = torch.full((40,), torch.finfo(dtype).max, dtype=dtype)  # whose sum is infinite
    sound = {"a": large, "b": -large, "n": torch.tensor(3), "none": torch.empty(0)}
    assert not_finite(sound) == []
    bad = torch.zeros(3, 5, dtype=dtype)
    bad[1, 2:4] = value
    assert not_finite({**sound, "c": bad}) == ["c (2 of 15 values)"]


# Files


def poison(content, place):
    """Put what is no number into a checkpoint."""
    if place == "weights":
        content["state_dict"]["linear.weight"][0, 3] = math.nan
    else:
        content["optimizer"]["state"][1][place][0] = math.inf


@pytest.mark.parametrize(
    ("place", "optimizer", "says"),
    [
        ("weights", "sgd", r"linear\.weight \(1 of 576 values\)"),
        ("momentum_buffer", "sgd", r"optimizer\.1\.momentum_buffer \(1 of 3 values\)"),
        ("exp_avg", "adamw", r"optimizer\.1\.exp_avg \(1 of 3 values\)"),
    ],
)
def test_a_run_does_not_go_on_from_it(make_cfg, place, optimizer, says):
    options = ("OPTIM.NAME", optimizer, "TRAIN.CHECKPOINT_FREQ", 1)
    build_trainer(make_cfg(*options, "OPTIM.MAX_EPOCH", 2)).train()
    cfg = make_cfg(*options)
    file = Path(cfg.OUTPUT_DIR) / "learner" / "model.pth.tar-2"
    changed(file, lambda content: poison(content, place))
    with pytest.raises(ValueError, match=rf"model\.pth\.tar-2 has values .* NaN: {says}\. Move it"):
        build_trainer(cfg).train()
    file.rename(file.parent.parent / "elsewhere")
    trainer = build_trainer(cfg)
    trainer.train()
    assert trainer.start_epoch == 1 and weights(trainer).isfinite().all()


def test_a_snapshot_with_it(make_cfg):
    options = (*ALWAYS, "OPTIM.MAX_EPOCH", 1)
    assert cut_off(make_cfg, options, kill_in("trainer", "forward_backward", 4)) is None
    cfg = make_cfg(*options)
    file, before = sorted((Path(cfg.OUTPUT_DIR) / "in_progress").iterdir(), reverse=True)
    changed(file, lambda content: poison(content["models"]["learner"], "weights"))
    with pytest.raises(ValueError, match=rf"{file.name} has values that are infinite or NaN"):
        build_trainer(cfg).train()
    file.unlink()
    trainer = build_trainer(cfg)
    assert (
        trainer.resume_model_if_exist(cfg.OUTPUT_DIR) == 0 and trainer._checkpointer.first_step == 2
    )
    assert before.exists()


def test_infinite_second_moments_and_buffers_are_not_refused(make_cfg):
    """Weights stay numbers with them, and a run saves them."""
    options = ("OPTIM.NAME", "adamw", "TRAIN.CHECKPOINT_FREQ", 1)
    trainer = build_trainer(make_cfg(*options, "OPTIM.MAX_EPOCH", 1))
    trainer.train()
    trainer.model.register_buffer("mask", torch.full((2,), -math.inf))
    trainer.optim.state_dict()["state"][0]["exp_avg_sq"].fill_(math.inf)
    trainer.save_model(0, trainer.output_dir)
    again = build_trainer(make_cfg(*options))
    again.model.register_buffer("mask", torch.zeros(2))
    again.train()
    assert again.start_epoch == 1 and again.model.mask.isinf().all()


def test_testing_and_pretrained_weights(make_cfg):
    build_trainer(make_cfg("TRAIN.CHECKPOINT_FREQ", 1)).train()
    trainer = build_trainer(make_cfg())
    file = Path(trainer.output_dir) / "learner" / "model.pth.tar-3"
    changed(file, lambda content: poison(content, "weights"))
    says = r"model\.pth\.tar-3 has values that are infinite or NaN: linear\.weight"
    with pytest.raises(ValueError, match=says):
        trainer.load_model(trainer.output_dir)
    with pytest.raises(ValueError, match=says):
        load_pretrained_weights(trainer.model, file)
    file.unlink()
    trainer.load_model(trainer.output_dir)
    assert trainer.test() > 0


def test_weights_that_the_last_step_made_infinite_are_not_saved(make_cfg):
    trainer = build_trainer(make_cfg("OPTIM.MAX_EPOCH", 1))
    step = trainer.forward_backward

    def last(batch):
        summary = step(batch)
        if trainer.batch_idx + 1 == trainer.num_batches:
            torch.nn.init.constant_(trainer.model.linear.weight, math.inf)
        return summary

    trainer.forward_backward = last
    with pytest.raises(
        FloatingPointError, match=r"learner\.linear\.weight \(576 of 576 .* not saved"
    ):
        trainer.train()
    assert not (Path(trainer.output_dir) / "learner").exists()
    with pytest.raises(FloatingPointError, match=r"linear\.bias \(3 of 3 values\)"):
        torch.nn.init.constant_(trainer.model.linear.weight, 1.0)
        torch.nn.init.constant_(trainer.model.linear.bias, math.nan)
        check_weights(trainer)


# Results


def evaluated(*batches):
    evaluator = build_evaluator(get_cfg_default())
    for batch in batches:
        evaluator.process(torch.tensor(batch), torch.zeros(len(batch), dtype=torch.long))
    return evaluator.evaluate()


@pytest.mark.parametrize(
    "row", [[math.nan] * 3, [0.5, math.nan, 0.1], [1.0, math.inf, 2.0], [-math.inf] * 3]
)
def test_an_image_without_an_answer(row, capsys):
    sound = [[2.0, 1.0, 0.0]] * 3
    with pytest.raises(FloatingPointError, match=r"^2 of 7 images have no answer: .*PREC fp32"):
        evaluated(sound, [row, *sound[:2]], [row])
    assert "accuracy" not in capsys.readouterr().out


def test_what_is_an_answer():
    """Classes that are ruled out, classes that are as good, the largest number there is."""
    most = torch.finfo(torch.float32).max
    results = evaluated([[0.0, -math.inf]], [[0.0, 0.0]], [[most, -most]], [[0.0, -math.inf]])
    assert results["accuracy"] == 100
    half = build_evaluator(get_cfg_default())
    half.process(torch.tensor([[65504.0, -65504.0]], dtype=torch.float16), torch.tensor([0]))
    assert half.evaluate()["accuracy"] == 100


def test_nothing_is_left_of_before(capsys):
    evaluator = build_evaluator(get_cfg_default())
    evaluator.process(torch.tensor([[math.nan, 0.0]]), torch.tensor([0]))
    evaluator.reset()
    evaluator.process(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    assert evaluator.evaluate()["accuracy"] == 100


class Broken(Classification):
    def evaluate(self):
        return {"accuracy": math.nan}


def test_no_model_is_best_by_a_result_that_is_none(make_cfg, monkeypatch):
    monkeypatch.setitem(EVALUATOR_REGISTRY._objects, "Broken", Broken)
    options = ("TEST.EVALUATOR", "Broken", "OPTIM.MAX_EPOCH", 1)
    with pytest.raises(FloatingPointError, match=r"is nan: .* Set TEST\.FINAL_MODEL to last_step"):
        build_trainer(make_cfg(*options, "TEST.FINAL_MODEL", "best_val")).train()
    trainer = build_trainer(make_cfg(*options, "TEST.FINAL_MODEL", "last_step"))
    trainer.train()
    assert checkpoints(trainer.cfg) == ["model.pth.tar-1"]


def test_an_answer_that_one_of_two_processes_lacks(make_cfg, spread):  # noqa: F811
    from dassl.utils import distributed

    def work():
        trainer = build_trainer(make_cfg())
        if distributed.rank() == 1:
            torch.nn.init.constant_(trainer.model.linear.bias, math.nan)
        with pytest.raises(FloatingPointError) as error:
            trainer.test()
        return str(error.value)

    said = spread(2, work)
    assert said[0] == said[1] and said[0].startswith("5 of 12 images have no answer")


@pytest.mark.parametrize("name", ["acc", "kept"])
def test_other_values_of_a_step_may_be_no_number(make_cfg, name):
    trainer = build_trainer(make_cfg("OPTIM.MAX_EPOCH", 1))
    step = trainer.forward_backward
    trainer.forward_backward = lambda batch: {**step(batch), name: torch.tensor(math.nan)}
    trainer.train()
    assert checkpoints(trainer.cfg) == ["model.pth.tar-1"]
