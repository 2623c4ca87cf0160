"""Runs of the methods' published code: the whole of CLIP, with the learner somewhere in it."""

from pathlib import Path

import numpy as np
import pytest
import torch

import train
from dassl.engine import TRAINER_REGISTRY
from frozen_clip import described
from frozen_clip.weights.state_dict import build as build_clip
from tests.helpers.golden_files import Golden, clip_state
from tests.helpers.toy_run import build, command, trainer_names

trainer_names()  # registers them
CASES = {  # golden file: trainer, folder of its public checkpoints
    "mmrl/mmrl_C1": ("MMRL", "MultiModalRepresentationLearner"),
    "mmrl/mmrlpp_C1": ("MMRLPlus", "MultiModalRepresentationLearner"),
    "baselines/coop_end_generic": ("CoOp", "prompt_learner"),
    "baselines/coop_middle_csc": ("CoOp", "prompt_learner"),
    "baselines/coop_ctxinit": ("CoOp", "prompt_learner"),
    "baselines/cocoop_c4": ("CoCoOp", "prompt_learner"),
    "baselines/maple_ctxinit": ("MaPLe", "MultiModalPromptLearner"),
    "baselines/promptsrc": ("PromptSRC", "VLPromptLearner"),
}
MMRL_KEYS = ("REP_LAYERS", "N_REP_TOKENS", "REP_DIM", "ALPHA", "REG_WEIGHT", "BETA")
LORA_KEYS = ("RES_LORA_DIM", "PROJ_LORA_DIM")


@pytest.fixture(scope="module")
def golden_clip(tmp_path_factory) -> tuple[Path, dict[str, torch.Tensor]]:
    """The golden CLIP as a weights file, and its tensors."""
    state = clip_state()
    file = tmp_path_factory.mktemp("clip") / "golden.pt"
    torch.save(described(build_clip(state)), file)
    return file, state


def public_state(golden: Golden, frozen_state: dict, folder: str) -> dict[str, torch.Tensor]:
    """What the published code saves: all of the model, or of its prompt learner."""
    learned, classes = golden.group("param"), len(golden.meta["classnames"])
    buffers = {
        "representation_learner.prompt_embeddings": torch.zeros(classes, 77, 64),
        "prompt_learner.token_prefix": torch.zeros(classes, 1, 64),
        "prompt_learner.token_suffix": torch.zeros(classes, 72, 64),
    }
    if folder == "prompt_learner":
        whole = {**learned, **buffers}
        start = "prompt_learner."
        return {k.removeprefix(start): v for k, v in whole.items() if k.startswith(start)}
    text = {k: v for k, v in frozen_state.items() if not k.startswith("visual.")}
    frozen = {f"text_encoder.{k}": v for k, v in text.items() if "embedding.weight" not in k}
    frozen |= {f"image_encoder.{k[7:]}": v for k, v in frozen_state.items() if k not in text}
    return {"logit_scale": frozen_state["logit_scale"], **frozen, **buffers, **learned}


def save_public(run: Path, folder: str, state: dict, epoch: int = 5) -> Path:
    """A file in the layout of Dassl 0.6: its scheduler holds objects, its result is numpy's."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.1)
    successor = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10.0)
    content = {
        "state_dict": state,
        "epoch": epoch,
        "optimizer": optimizer.state_dict(),
        "scheduler": {"successor": successor, "last_epoch": epoch},
        "val_result": np.float64(81.5),
    }
    (run / folder).mkdir(parents=True)
    torch.save(content, run / folder / f"model.pth.tar-{epoch}")
    return run


def options(golden: Golden, node: str) -> tuple[str, ...]:
    """The config of a golden file."""
    meta = golden.meta
    settings = meta.get("options") or {
        key: meta[key.lower()] for key in (*MMRL_KEYS, *LORA_KEYS) if key.lower() in meta
    }
    words = [(f"TRAINER.{node}.{key}", str(value)) for key, value in settings.items()]
    return (f"TRAINER.{node}.PREC", "fp32", *(word for pair in words for word in pair))


def golden_trainer(golden: Golden, name: str, toy, clip_file: Path, output: Path, *more: str):
    """The trainer of a golden file's config and classes, its learner as it starts."""
    opts = ("MODEL.BACKBONE.NAME", str(clip_file), "USE_CUDA", "False")
    opts += (*options(golden, TRAINER_REGISTRY.get(name).node), *more)
    trainer = build(command(toy, name, output, opts=opts))
    trainer.lab2cname = dict(enumerate(golden.meta["classnames"]))
    clip = trainer.method.clip
    trainer.method = trainer.build_method(clip, clip.prompts(trainer.classnames, trainer.template))
    return trainer


@pytest.fixture(params=CASES)
def case(request, toy, golden_clip, tmp_path):
    """A golden file, the trainer of its config, and the state of a public run."""
    golden, (name, folder) = Golden(f"{request.param}.npz"), CASES[request.param]
    file, frozen_state = golden_clip
    trainer = golden_trainer(golden, name, toy, file, tmp_path / "ours")
    return golden, trainer, public_state(golden, frozen_state, folder)


def assert_golden(golden: Golden, trainer):
    outputs = trainer.method(golden["in/images"])
    logits = getattr(outputs, "logits", outputs)
    logits = getattr(logits, "class_token", logits)
    assert (logits - golden["out/logits"]).abs().max() < 1e-4


def test_a_public_run_gives_the_golden_logits(case, tmp_path):
    golden, trainer, state = case
    run = save_public(tmp_path / "public", trainer.model_name, state)
    trainer.load_model(str(run))
    assert_golden(golden, trainer)
    assert trainer.source == ("ImageNet", "")


@pytest.mark.parametrize("place", ["front", "within"])
def test_data_parallel_leaves_its_prefix(place, case, tmp_path):
    golden, trainer, state = case
    first = {"front": "module.{}", "within": "{}"}[place]
    state = {first.format(key): value for key, value in state.items()}
    if place == "within":  # only the text encoder was spread over devices
        state = {k.replace("text_encoder.", "text_encoder.module."): v for k, v in state.items()}
    trainer.load_model(str(save_public(tmp_path / "public", trainer.model_name, state)), epoch=5)
    assert_golden(golden, trainer)


def test_a_run_that_kept_its_best_epoch_alone(case, tmp_path):
    golden, trainer, state = case
    folder = save_public(tmp_path / "public", trainer.model_name, state) / trainer.model_name
    (folder / "model.pth.tar-5").rename(folder / "model-best.pth.tar")
    trainer.load_model(str(tmp_path / "public"))
    assert_golden(golden, trainer)


def test_public_vpt(toy, golden_clip, tmp_path):
    """There are no golden numbers of it; its tensors are PromptSRC's of the vision tower."""
    golden, (file, frozen_state) = Golden("baselines/promptsrc.npz"), golden_clip
    state = public_state(golden, frozen_state, "VLPromptLearner")
    state = {k: v for k, v in state.items() if "prompt_learner" not in k}
    state = {k: v for k, v in state.items() if not k.startswith("text_encoder") or "VPT" not in k}
    node = "TRAINER.VPT"
    opts = (f"{node}.PROMPT_DEPTH_VISION", "9", f"{node}.N_CTX_VISION", "4", "USE_CUDA", "False")
    opts += ("MODEL.BACKBONE.NAME", str(file))
    trainer = build(command(toy, "VPT", tmp_path / "ours", opts=opts))
    trainer.load_model(str(save_public(tmp_path / "public", "prompt_learner", state)))
    assert torch.equal(trainer.method.learner.vision_tokens[0], golden["param/image_encoder.VPT"])


def test_by_the_command(toy, golden_clip, tmp_path):
    golden, (file, frozen_state) = Golden("mmrl/mmrl_C1.npz"), golden_clip
    state = public_state(golden, frozen_state, "MultiModalRepresentationLearner")
    run = save_public(tmp_path / "public", "MultiModalRepresentationLearner", state)
    opts = (*options(golden, "MMRL"), "MODEL.BACKBONE.NAME", str(file))
    flags = ("--eval-only", "--model-dir", str(run), "--load-epoch", "5")
    assert train.main(command(toy, "MMRL", tmp_path / "ours", *flags, opts=opts)) == 0
    assert (tmp_path / "ours" / "results.json").is_file()


# What does not fit


@pytest.mark.parametrize(
    ("file", "opts", "message"),
    [
        (
            "mmrl/mmrl_C1",
            ("TRAINER.MMRL.N_REP_TOKENS", "3"),
            r"rep_tokens has shape \(5, 32\), the config makes \(3, 32\): "
            r"TRAINER.MMRL.N_REP_TOKENS makes 3, needed is 5",
        ),
        (
            "mmrl/mmrl_C1",
            ("TRAINER.MMRL.REP_DIM", "16", "TRAINER.MMRL.REP_LAYERS", "[11, 12]"),
            r"text_aligner.weight has .*: TRAINER.MMRL.REP_LAYERS makes 2, needed is 7, "
            r"TRAINER.MMRL.REP_DIM makes 16, needed is 32",
        ),
        (
            "mmrl/mmrlpp_C1",
            ("TRAINER.MMRLPLUS.RES_LORA_DIM", "2"),
            r"vision_aligner.B has .*: TRAINER.MMRLPLUS.RES_LORA_DIM makes 2, needed is 4",
        ),
        (
            "mmrl/mmrlpp_C1",
            ("TRAINER.MMRLPLUS.PROJ_LORA_DIM", "2"),
            r"projection_A has .*PROJ_LORA_DIM makes 2, needed is 8",
        ),
        (
            "baselines/coop_end_generic",
            ("TRAINER.COOP.N_CTX", "2"),
            r"context has shape \(4, 64\).*: TRAINER.COOP.N_CTX/CTX_INIT makes 2, needed is 4",
        ),
        (
            "baselines/coop_end_generic",
            ("TRAINER.COOP.CSC", "True"),
            r"context has shape \(4, 64\), the config makes .*: TRAINER.COOP.CSC decides",
        ),
        (
            "baselines/maple_ctxinit",
            ("TRAINER.MAPLE.PROMPT_DEPTH", "3"),
            r"coupling.bias has .*: TRAINER.MAPLE.PROMPT_DEPTH makes 3, needed is 9",
        ),
        (
            "baselines/promptsrc",
            ("TRAINER.PROMPTSRC.N_CTX_VISION", "2"),
            r"vision_tokens has .*: TRAINER.PROMPTSRC.N_CTX_VISION makes 2, needed is 4",
        ),
    ],
)
def test_other_shapes_name_the_keys(file, opts, message, toy, golden_clip, tmp_path):
    golden, (name, folder) = Golden(f"{file}.npz"), CASES[file]
    trainer = golden_trainer(golden, name, toy, golden_clip[0], tmp_path / "ours", *opts)
    run = save_public(tmp_path / "p", folder, public_state(golden, golden_clip[1], folder))
    with pytest.raises(ValueError, match=message):
        trainer.load_model(str(run))


def test_another_backbone_is_named(toy, golden_clip, tmp_path):
    golden, (name, folder) = Golden("mmrl/mmrl_C1.npz"), CASES["mmrl/mmrl_C1"]
    opts = (*options(golden, "MMRL"), "TRAINER.MMRL.REP_LAYERS", "[2, 3]")
    trainer = build(command(toy, name, tmp_path / "ours", clip="wide", opts=opts))
    run = save_public(tmp_path / "p", folder, public_state(golden, golden_clip[1], folder))
    message = r"rep_projection has .*: MODEL.BACKBONE.NAME makes 128, needed is 64, MODEL"
    with pytest.raises(ValueError, match=message):
        trainer.load_model(str(run))


def test_the_run_of_another_trainer(toy, golden_clip, tmp_path):
    golden, folder = Golden("mmrl/mmrl_C1.npz"), "MultiModalRepresentationLearner"
    trainer = build(command(toy, "MMRLPlus", tmp_path / "ours"))
    run = save_public(tmp_path / "p", folder, public_state(golden, golden_clip[1], folder))
    with pytest.raises(ValueError, match=r"rep_tokens is missing(.|\n)*what MMRL learns") as told:
        trainer.load_model(str(run))
    assert str(told.value).count("\n") < 16


def test_a_file_that_is_no_checkpoint(toy, tmp_path):
    trainer = build(command(toy, "MMRL", tmp_path / "ours"))
    (tmp_path / trainer.model_name).mkdir()
    torch.save({"rep_tokens": torch.zeros(2)}, tmp_path / trainer.model_name / "model.pth.tar-1")
    with pytest.raises(ValueError, match="no checkpoint of a trainer: it has no 'state_dict'"):
        trainer.load_model(str(tmp_path))
