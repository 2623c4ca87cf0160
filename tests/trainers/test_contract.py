"""What every registered trainer must do; a new one joins by having a small.yaml."""

import json
import subprocess
import sys

import pytest
import torch

import train
from dassl.engine import TRAINER_REGISTRY
from tests.helpers import toy_run
from tests.helpers.toy_run import REPO, build, classify, command, trainer_names
from training.feature_fit import FeatureFit
from training.published import CLASSNAMES

TRAINERS = trainer_names()
LEARNERS = [name for name in TRAINERS if TRAINER_REGISTRY.get(name).model_name]


def snapshot(module):
    """What is learned, or frozen; the names of classes are neither."""
    state = module.state_dict()
    return {name: value.clone() for name, value in state.items() if name != CLASSNAMES}


def test_all_trainers_are_here():
    zero_shot = {"ZeroshotCLIP", "ZeroshotCLIP2"}
    baselines = {"CoOp", "CoCoOp", "MaPLe", "IVLP", "VPT", "PromptSRC"}
    assert set(TRAINERS) >= {"MMRL", "MMRLPlus", "MMRLpp", *baselines, *zero_shot}
    assert set(TRAINERS) - set(LEARNERS) == zero_shot


@pytest.mark.parametrize("clip", ["narrow", "wide"])
@pytest.mark.parametrize("name", LEARNERS)
def test_training_moves_the_learner_and_nothing_else(name, clip, toy, tmp_path):
    trainer = build(command(toy, name, tmp_path, clip=clip))
    learner, frozen = trainer.method.learner, trainer.method.clip
    before, frozen_before = snapshot(learner), snapshot(frozen)
    trainer.train()
    assert all(not torch.equal(before[k], v) for k, v in snapshot(learner).items())
    assert all(torch.equal(frozen_before[k], v) for k, v in frozen.state_dict().items())
    assert not any(p.grad is not None for p in frozen.parameters())
    if not issubclass(type(trainer), FeatureFit):
        owned = {id(p) for group in trainer.optim.param_groups for p in group["params"]}
        assert owned == {id(p) for p in learner.parameters()}


@pytest.mark.parametrize("name", LEARNERS)
def test_saved_keys_are_the_learners(name, toy, tmp_path):
    trainer = build(command(toy, name, tmp_path))
    trainer.train()
    file = tmp_path / trainer.model_name / f"model.pth.tar-{trainer.max_epoch}"
    checkpoint = torch.load(file, weights_only=True)
    assert checkpoint["state_dict"].keys() == trainer.method.learner.state_dict().keys()
    assert {"epoch", "optimizer", "scheduler"} <= checkpoint.keys()
    assert checkpoint["epoch"] == trainer.max_epoch


NEW_PROCESS = """
import sys, warnings
warnings.simplefilter("ignore")
import torch
torch.set_num_threads(1)
from tests.helpers.toy_run import build, classify
for line in open(sys.argv[1]):
    run, arguments = eval(line)
    trainer = build(arguments)
    trainer.load_model(run)
    torch.save(classify(trainer), run + "/logits.pt")
"""


def test_a_new_process_gives_the_same_logits(toy, tmp_path):
    expected, lines = {}, []
    for name in LEARNERS:
        run = tmp_path / name
        trainer = build(command(toy, name, run))
        trainer.train()
        expected[run] = classify(trainer)
        lines.append(repr((str(run), command(toy, name, tmp_path / "elsewhere"))))
    (tmp_path / "runs").write_text("\n".join(lines))
    program = [sys.executable, "-c", NEW_PROCESS, str(tmp_path / "runs")]
    subprocess.run(program, cwd=REPO, check=True)
    for run, logits in expected.items():
        assert torch.equal(torch.load(run / "logits.pt", weights_only=True), logits), run


@pytest.mark.parametrize("name", LEARNERS)
def test_loads_onto_another_class_list(name, toy, tmp_path):
    build(command(toy, name, tmp_path)).train()
    opts = ("DATASET.SUBSAMPLE_CLASSES", "all")
    other = build(command(toy, name, tmp_path / "all", opts=opts))
    if other.learns_classes:
        with pytest.raises(ValueError, match="has nothing to say of others"):
            other.load_model(str(tmp_path))
        new = ("DATASET.SUBSAMPLE_CLASSES", "new", "DATASET.ROOT", "nowhere")
        with pytest.raises(ValueError, match=r"is new, but .* has nothing to say of others"):
            build(command(toy, name, tmp_path / "new", opts=new))
        return
    other.load_model(str(tmp_path))
    assert classify(other).shape[1] == len(toy_run.CLASSES)


@pytest.mark.parametrize("name", LEARNERS)
def test_evaluate_train_evaluate_equals_a_fresh_object(name, toy, tmp_path):
    """No cache survives a training step, and evaluating changes nothing."""
    trainer = build(command(toy, name, tmp_path / "a"))
    trainer.test()
    before = classify(trainer)
    trainer.train()
    after = classify(trainer)
    fresh = build(command(toy, name, tmp_path / "b"))
    fresh.train()
    assert torch.equal(after, classify(fresh))
    assert not torch.allclose(before, after)


@pytest.mark.parametrize("name", LEARNERS)
def test_one_seed_gives_one_result(name, toy, tmp_path):
    states = []
    for part, opts in (("a", ()), ("b", ()), ("c", ("SEED", "2"))):
        trainer = build(command(toy, name, tmp_path / part, opts=opts))
        trainer.train()
        states.append(snapshot(trainer.method.learner))
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    trained = dict(trainer.method.learner.named_parameters())  # labels may be alike
    assert not any(torch.equal(states[0][k], states[2][k]) for k in trained)


@pytest.mark.parametrize("name", TRAINERS)
@pytest.mark.parametrize("precision", ["fp32", "amp"])
def test_precisions_of_a_cpu(name, precision, toy, tmp_path):
    key = f"TRAINER.{node(name)}.PREC"
    arguments = command(toy, name, tmp_path, opts=(key, precision, "USE_CUDA", "False"))
    trainer = build(arguments)
    trainer.train()
    assert classify(trainer).isfinite().all()
    learned = snapshot(trainer.method.learner).values()
    assert {v.dtype for v in learned if v.is_floating_point()} <= {torch.float32}


@pytest.mark.gpu
@pytest.mark.parametrize("name", TRAINERS)
@pytest.mark.parametrize("precision", ["fp32", "amp", "fp16"])
def test_precisions_of_a_gpu(name, precision, toy, tmp_path):
    exact = build(command(toy, name, tmp_path / "cpu", opts=("USE_CUDA", "False")))
    opts = (f"TRAINER.{node(name)}.PREC", precision)
    trainer = build(command(toy, name, tmp_path, opts=opts))
    assert trainer.device.type == "cuda"
    difference = (classify(trainer).cpu() - classify(exact)).abs().max()
    assert difference < {"fp32": 0.05, "amp": 2, "fp16": 2}[precision]
    trainer.train()
    assert classify(trainer).isfinite().all()


def node(name: str) -> str:
    trainer = TRAINER_REGISTRY.get(name)
    return trainer.alias or trainer.node


@pytest.mark.parametrize("name", TRAINERS)
@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (("MODEL.BACKBONE.NAME", "ViT-B/17"), r"Did you mean 'ViT-B/16'\?.*Allowed: small, RN50"),
        (("INPUT.SIZE", "[224, 224]"), r"INPUT.SIZE is \[224, 224\].*32 x 32"),
        (("{node}.PREC", "fp8"), r"PREC is 'fp8'; allowed is one of fp32, amp, fp16"),
        (("TASK", "B2X"), r"TASK is 'B2X'; allowed are B2N .*FS .*CD"),
    ],
)
def test_wrong_settings_say_what_is_allowed(name, opts, message, toy, tmp_path):
    opts = tuple(o.format(node=f"TRAINER.{node(name)}") for o in opts)
    with pytest.raises(ValueError, match=message):
        build(command(toy, name, tmp_path, opts=opts))


@pytest.mark.parametrize("name", ["MMRL", "MMRLPlus", "MMRLpp"])
@pytest.mark.parametrize("layers", ["[]", "[0, 1]", "[2, 4]", "[3, 2]", "[2, 2]"])
def test_wrong_layers_say_what_is_allowed(name, layers, toy, tmp_path):
    opts = (f"TRAINER.{node(name)}.REP_LAYERS", layers)
    with pytest.raises(ValueError, match=r"REP_LAYERS is .*allowed .* from 1 to 3 "):
        build(command(toy, name, tmp_path, opts=opts))


@pytest.mark.parametrize("name", TRAINERS)
def test_the_whole_command_leaves_a_record(name, toy, tmp_path):
    assert train.main(command(toy, name, tmp_path)) == 0
    record = json.loads((tmp_path / "results.json").read_text())
    assert record["complete"] and record["trainer"] == name and record["seed"] == 1
    assert record["total"] == 9 and record["classes"] == "base"
    assert record["accuracy"] == pytest.approx(100 * record["correct"] / 9)
    log = (tmp_path / "log.txt").read_text()
    assert "=> result" in log and f"* accuracy: {record['accuracy']:.1f}%" in log
    assert (tmp_path / "config.yaml").is_file()
