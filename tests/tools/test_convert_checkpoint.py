"""tools/convert_checkpoint.py: from ours to theirs and back, and what it refuses."""

import json

import pytest
import torch
from safetensors.torch import load_file

import train
from dassl.engine import TRAINER_REGISTRY
from tests.helpers.golden_files import Golden, golden_names
from tests.helpers.toy_run import build, classify, command, trainer_names
from tests.trainers.test_public_checkpoints import save_public
from tools import convert_checkpoint
from tools.convert_checkpoint import convert
from training.published import published

LEARNERS = [name for name in trainer_names() if TRAINER_REGISTRY.get(name).model_name]
SAID = {"PromptSRC": "IVLP or PromptSRC", "MMRLpp": "MMRLPlus or MMRLpp"}  # the same tensors
SAID |= dict.fromkeys(("CoOp", "KgCoOp", "ProGrad"), "CoOp or KgCoOp or ProGrad")


def learned(file) -> dict:
    return torch.load(file, weights_only=True)["state_dict"]


def assert_same(ours: dict, theirs: dict):
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


def refused(capsys, *arguments) -> str:
    assert convert_checkpoint.main([str(word) for word in arguments]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1
    return message


@pytest.fixture(params=golden_names())
def public(request, tmp_path):
    """A public run with golden parameters: its trainer's name, its folder, what is learned."""
    golden = Golden(request.param)
    state, root = golden.group("param"), published(golden.trainer).maps[0].root
    state = {key.removeprefix(root): value for key, value in state.items()}
    whole = {**state, "prompt_embeddings": torch.zeros(3, 77, 64), "logit_scale": torch.zeros(())}
    folder = golden.trainer.model_name
    return golden.meta["trainer"], save_public(tmp_path / "public", folder, whole), state


def test_public_to_ours_and_back(public, tmp_path):
    name, run, state = public
    place = f"{TRAINER_REGISTRY.get(name).model_name}/model.pth.tar-5"
    said = convert(run, tmp_path / "ours")
    assert f"{SAID.get(name, name)} learned in 5 epochs" in said
    ours = learned(tmp_path / "ours" / place)
    assert ours.keys() == published(TRAINER_REGISTRY.get(name)).maps[0].tensors.keys()
    convert(tmp_path / "ours", tmp_path / "back", to="public", trainer=name)
    assert_same(learned(tmp_path / "back" / place), state)
    convert(run / place, tmp_path / "learner.safetensors", trainer=name)
    assert_same(load_file(tmp_path / "learner.safetensors"), ours)
    convert(tmp_path / "learner.safetensors", tmp_path / "again.pth")
    assert_same(learned(tmp_path / "again.pth"), ours)
    assert torch.load(tmp_path / "again.pth", weights_only=True)["epoch"] == 5


@pytest.mark.parametrize("name", LEARNERS)
def test_our_runs_go_round(name, toy, tmp_path):
    """Trained, as public files and as safetensors and back: the same answers."""
    trainer = build(command(toy, name, tmp_path / "run"))
    trainer.train()
    (tmp_path / "run" / "config.yaml").write_text(trainer.cfg.dump())
    is_public = published(type(trainer)).maps[0].tensors
    if not is_public:
        with pytest.raises(ValueError, match=f"no published checkpoints of {name} are known"):
            convert(tmp_path / "run", tmp_path / "theirs", to="public")
    convert(tmp_path / "run", tmp_path / "theirs", to="public" if is_public else "ours")
    assert (tmp_path / "theirs" / "config.yaml").is_file()
    convert(tmp_path / "theirs", tmp_path / "l.safetensors")
    convert(tmp_path / "l.safetensors", tmp_path / "back", trainer=name)
    for folder in ("theirs", "back"):
        other = build(command(toy, name, tmp_path / "other"))
        other.load_model(str(tmp_path / folder))
        assert torch.equal(classify(other), classify(trainer))


def test_by_the_command(toy, tmp_path, capsys):
    run, out = tmp_path / "run", tmp_path / "out"
    assert train.main(command(toy, "MMRL", run)) == 0
    capsys.readouterr()
    assert convert_checkpoint.main([str(run), str(out), "--to", "public"]) == 0
    place = "MultiModalRepresentationLearner/model.pth.tar-2"
    assert capsys.readouterr().out.startswith(f"{out / place}: 19,008 values that MMRL learned")
    assert (out / "config.yaml").read_text() == (run / "config.yaml").read_text()
    flags = ("--eval-only", "--model-dir", str(out))
    assert train.main(command(toy, "MMRL", tmp_path / "eval", *flags)) == 0
    first, second = (
        json.loads((folder / "results.json").read_text()) for folder in (run, tmp_path / "eval")
    )
    assert first["accuracy"] == second["accuracy"]
    folder = run / "MultiModalRepresentationLearner"
    assert convert_checkpoint.main([str(folder), str(tmp_path / "one.pth")]) == 0
    assert_same(learned(tmp_path / "one.pth"), learned(run / place))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["eval", "one.pth", "out", "run"]


def test_nothing_is_overwritten_without_force(tmp_path, capsys):
    state = Golden("mmrl/mmrl_C1.npz").group("param")
    run = save_public(tmp_path / "run", "MultiModalRepresentationLearner", state)
    (tmp_path / "out.pth").write_text("precious")
    assert "exists already; add --force" in refused(capsys, run, tmp_path / "out.pth")
    assert (tmp_path / "out.pth").read_text() == "precious"
    assert convert_checkpoint.main([str(run), str(tmp_path / "out.pth"), "--force"]) == 0
    (run / "config.yaml").write_text("TRAINER: {NAME: MMRL}")
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "config.yaml").write_text("precious")
    assert "o/config.yaml exists already" in refused(capsys, run, tmp_path / "o")
    assert list((tmp_path / "o").iterdir()) == [tmp_path / "o" / "config.yaml"]


def test_what_is_refused(tmp_path, capsys):
    mmrl = Golden("mmrl/mmrl_C1.npz").group("param")
    maple = Golden("baselines/maple_ctxinit.npz").group("param")
    out = tmp_path / "out.pth"

    def file(name, state):
        torch.save({"state_dict": state, "epoch": 1}, tmp_path / name)
        return tmp_path / name

    one, both = file("one.pth", mmrl), file("both.pth", {**mmrl, **maple})
    assert "there is no" in refused(capsys, tmp_path / "nowhere", out)
    assert "but has none of ['MultiModal" in refused(capsys, tmp_path, out)
    part = file("part.pth", {"prompt_learner.proj.bias": torch.zeros(2)})
    assert "holds 1 tensors, but not all that one of these" in refused(capsys, part, out)
    assert "may be of MMRL or MaPLe: say which" in refused(capsys, both, out)
    message = refused(capsys, one, out, "--trainer", "MaPLe")
    assert "does not hold what MaPLe learns; it holds what MMRL learns" in message
    assert "'MMLR' is unknown; allowed: " in refused(capsys, one, out, "--trainer", "MMLR")
    assert "its own kind" in refused(capsys, one, out, "--to", "safetensors")
    assert "its own kind" in refused(capsys, one, tmp_path / "a.safetensors", "--to", "ours")
    (tmp_path / "bad.safetensors").write_text("no")
    assert "is no .safetensors file" in refused(capsys, tmp_path / "bad.safetensors", out)
    (tmp_path / "bad.pth").write_text("no")
    assert "bad.pth is a text ('no'), not the file: fetch it again" in refused(
        capsys, tmp_path / "bad.pth", out
    )
    for folder in ("prompt_learner", "VLPromptLearner"):
        (tmp_path / folder).mkdir()
    assert "has several: ['VLPromptLearner', 'prompt_learner']" in refused(capsys, tmp_path, out)
    assert not out.exists()
    assert convert_checkpoint.main([str(both), str(out), "--trainer", "MaPLe"]) == 0
    assert learned(out).keys() == {"text_tokens", "coupling.weight", "coupling.bias"}
