"""Runs of the methods' published code: the whole of CLIP, with the learner somewhere in it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import train
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import save_checkpoint
from frozen_clip import described
from frozen_clip.weights.state_dict import build as build_clip
from tests.helpers.golden_files import Golden, clip_state, golden_names
from tests.helpers.toy_run import build, classify, command, state_of, trainer_names
from tools.convert_checkpoint import convert
from training.build import build_method
from training.method import normalize
from training.published import published

PUBLISHED = [n for n in trainer_names() if published(TRAINER_REGISTRY.get(n)).maps[0].tensors]


def folder_of(trainer: type) -> str:
    return published(trainer).directory or trainer.model_name


@pytest.fixture(scope="module")
def golden_clip(tmp_path_factory) -> tuple[Path, dict[str, torch.Tensor]]:
    """The golden CLIP as a weights file, and its tensors."""
    state = clip_state()
    file = tmp_path_factory.mktemp("clip") / "golden.pt"
    torch.save(described(build_clip(state)), file)
    return file, state


def public_state(golden: Golden, frozen_state: dict) -> dict[str, torch.Tensor]:
    """What the published code saves: all of the model, or of its prompt learner."""
    learned, classes = golden.group("param"), len(golden.meta["classnames"])
    buffers = {
        "representation_learner.prompt_embeddings": torch.zeros(classes, 77, 64),
        "prompt_learner.token_prefix": torch.zeros(classes, 1, 64),
        "prompt_learner.token_suffix": torch.zeros(classes, 72, 64),
    }
    root = published(golden.trainer).maps[0].root
    if root:
        whole = {**learned, **buffers}
        return {k.removeprefix(root): v for k, v in whole.items() if k.startswith(root)}
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


def options(golden: Golden) -> tuple[str, ...]:
    """The config of a golden file."""
    node = f"TRAINER.{golden.trainer.node}"
    words = [(f"{node}.{key}", str(value)) for key, value in golden.options.items()]
    return (f"{node}.PREC", "fp32", *(word for pair in words for word in pair))


def golden_trainer(golden: Golden, toy, clip_file: Path, output: Path, *more: str):
    """The trainer of a golden file's config and classes, its learner as it starts."""
    opts = ("MODEL.BACKBONE.NAME", str(clip_file), "USE_CUDA", "False", *options(golden), *more)
    opts += ("DATASET.TEMPLATE", golden.meta.get("template", ""))
    trainer = build(command(toy, golden.meta["trainer"], output, opts=opts))
    trainer.lab2cname = dict(enumerate(golden.meta["classnames"]))
    trainer.settings = replace(trainer.settings, dataset=golden.meta.get("dataset", ""))
    template = golden.meta.get("template", trainer.template)
    how = trainer.settings, trainer.clip, trainer.classnames, template
    trainer.method = build_method(trainer.Method, *how, trainer.precision)
    return trainer


@pytest.fixture(params=golden_names())
def case(request, toy, golden_clip, tmp_path):
    """A golden file, the trainer of its config, and the state of a public run."""
    golden, (file, frozen_state) = Golden(request.param), golden_clip
    trainer = golden_trainer(golden, toy, file, tmp_path / "ours")
    return golden, trainer, public_state(golden, frozen_state)


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


def test_data_parallel_leaves_its_prefix_and_the_best_epoch_is_enough(case, tmp_path):
    golden, trainer, state = case
    state = {f"module.{key}": value for key, value in state.items()}
    inner = {k.replace("text_encoder.", "text_encoder.module."): v for k, v in state.items()}
    folder = save_public(tmp_path / "public", trainer.model_name, inner) / trainer.model_name
    (folder / "model.pth.tar-5").rename(folder / "model-best.pth.tar")
    trainer.load_model(str(tmp_path / "public"))
    assert_golden(golden, trainer)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_map_goes_both_ways(name, toy, tmp_path):
    """In half precision and with frozen tensors beside it, as published; every tensor is read."""
    trainer = build(command(toy, name, tmp_path / "run"))
    before = state_of(trainer)
    wanted = {
        key: torch.randn_like(value).half() if value.is_floating_point() else value
        for key, value in before.items()
    }
    starts = trainer.cfg.TRAINER[trainer.node]
    state = published(type(trainer)).map_of(wanted).to_published(wanted, starts)
    assert state.keys() != wanted.keys()
    state["image_encoder.conv1.weight"] = state["token_prefix"] = torch.zeros(3, 1)
    folder = tmp_path / "public" / folder_of(type(trainer))
    save_checkpoint({"state_dict": state, "epoch": 5}, folder)
    trainer.load_model(str(tmp_path / "public"), epoch=5)
    assert all(torch.equal(wanted[key].to(v), v) for key, v in state_of(trainer).items())
    assert classify(trainer).isfinite().all()


def test_public_vpt(toy, golden_clip, tmp_path):
    """There are no golden numbers of it; its tensors are PromptSRC's of the vision tower."""
    golden, (file, frozen_state) = Golden("baselines/promptsrc.npz"), golden_clip
    state = public_state(golden, frozen_state)
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
    state = public_state(golden, frozen_state)
    run = save_public(tmp_path / "public", "MultiModalRepresentationLearner", state)
    opts = (*options(golden), "MODEL.BACKBONE.NAME", str(file))
    flags = ("--eval-only", "--model-dir", str(run), "--load-epoch", "5")
    assert train.main(command(toy, "MMRL", tmp_path / "ours", *flags, opts=opts)) == 0
    assert (tmp_path / "ours" / "results.json").is_file()


@pytest.mark.parametrize("none", [("N_CTX_VISION",), ("N_CTX_VISION", "PROMPT_DEPTH_VISION")])
def test_ivlp_of_the_text_tower_alone(none, toy, tmp_path):
    """Trains the text tokens; images are those of zero-shot CLIP. Public runs of it are read."""
    opts = tuple(word for key in none for word in (f"TRAINER.IVLP.{key}", "0"))
    assert train.main(command(toy, "IVLP", tmp_path / "run", opts=opts)) == 0
    trainer = build(command(toy, "IVLP", tmp_path / "again", opts=opts))
    before = state_of(trainer)
    assert before.keys() == {"text_tokens"}
    trainer.load_model(str(tmp_path / "run"))
    assert not torch.equal(state_of(trainer)["text_tokens"], before["text_tokens"])
    images = torch.randn(2, 3, 32, 32)
    f, _ = trainer.method.image_features(images)
    assert torch.equal(f, normalize(trainer.clip.encode_image(images)))
    both, alone = published(type(trainer)).maps
    tokens = torch.randn_like(before["text_tokens"])
    text = {"state_dict": alone.to_published({"text_tokens": tokens}), "epoch": 5}
    save_checkpoint(text, tmp_path / "public" / "VLPromptLearner")
    trainer.load_model(str(tmp_path / "public"))
    assert torch.equal(state_of(trainer)["text_tokens"], tokens)
    said = convert(tmp_path / "public", tmp_path / "ours")
    assert f"{tokens.numel():,} values that IVLP learned" in said
    convert(tmp_path / "ours", tmp_path / "back", to="public")
    back = torch.load(tmp_path / "back/VLPromptLearner/model.pth.tar-5", weights_only=True)
    assert torch.equal(back["state_dict"]["prompt_learner.ctx"], tokens[0])
    whole = both.to_published({"text_tokens": tokens, "vision_tokens": torch.zeros(3, 4, 64)})
    save_checkpoint({"state_dict": whole, "epoch": 5}, tmp_path / "both" / "VLPromptLearner")
    with pytest.raises(ValueError, match="what IVLP or PromptSRC learns"):
        trainer.load_model(str(tmp_path / "both"))


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
    golden = Golden(f"{file}.npz")
    trainer = golden_trainer(golden, toy, golden_clip[0], tmp_path / "ours", *opts)
    run = save_public(tmp_path / "p", trainer.model_name, public_state(golden, golden_clip[1]))
    with pytest.raises(ValueError, match=message):
        trainer.load_model(str(run))


def test_another_backbone_is_named(toy, golden_clip, tmp_path):
    golden = Golden("mmrl/mmrl_C1.npz")
    opts = (*options(golden), "TRAINER.MMRL.REP_LAYERS", "[2, 3]")
    trainer = build(command(toy, "MMRL", tmp_path / "ours", clip="wide", opts=opts))
    run = save_public(tmp_path / "p", trainer.model_name, public_state(golden, golden_clip[1]))
    message = r"rep_projection has .*: MODEL.BACKBONE.NAME makes 128, needed is 64, MODEL"
    with pytest.raises(ValueError, match=message):
        trainer.load_model(str(run))


def test_the_run_of_another_trainer(toy, golden_clip, tmp_path):
    golden = Golden("mmrl/mmrl_C1.npz")
    trainer = build(command(toy, "MMRLPlus", tmp_path / "ours"))
    run = save_public(tmp_path / "p", trainer.model_name, public_state(golden, golden_clip[1]))
    with pytest.raises(ValueError, match=r"rep_tokens is missing(.|\n)*what MMRL learns") as told:
        trainer.load_model(str(run))
    assert str(told.value).count("\n") < 16


def test_a_file_that_is_no_checkpoint(toy, tmp_path):
    trainer = build(command(toy, "MMRL", tmp_path / "ours"))
    (tmp_path / trainer.model_name).mkdir()
    torch.save({"rep_tokens": torch.zeros(2)}, tmp_path / trainer.model_name / "model.pth.tar-1")
    with pytest.raises(ValueError, match="no checkpoint of a trainer: it has no 'state_dict'"):
        trainer.load_model(str(tmp_path))
