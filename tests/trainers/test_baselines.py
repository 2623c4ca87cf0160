"""What is particular to each baseline, beside the contract and its numbers."""

import pytest
import torch

from frozen_clip import described
from tests.helpers.toy_run import build, command, state_of
from training.method import normalize
from training.templates import SELECTED_TEMPLATES


def test_coop_learns_on_a_resnet_and_prompted_towers_refuse_it(toy, tmp_path):
    from clip.model import CLIP as OpenAIModel

    file = tmp_path / "rn.pt"
    torch.save(described(OpenAIModel(32, 32, (1, 1, 1, 1), 16, None, 77, 49408, 64, 1, 2)), file)
    opts = ("MODEL.BACKBONE.NAME", str(file), "OPTIM.LR", "0.1")
    trainer = build(command(toy, "CoOp", tmp_path / "coop", opts=opts))
    before = state_of(trainer)
    trainer.train()
    assert not torch.equal(before["context"], trainer.method.learner.context)
    with pytest.raises(ValueError, match=r"ResNet CLIP.*ViT-B/16"):
        build(command(toy, "MaPLe", tmp_path / "maple", opts=opts))


def test_a_context_of_its_own_for_each_class_is_for_these_classes(toy, tmp_path):
    opts = ("TRAINER.COOP.CSC", "True", "TRAINER.COOP.CTX_INIT", "")
    build(command(toy, "CoOp", tmp_path, opts=opts)).train()
    other = build(
        command(toy, "CoOp", tmp_path / "all", opts=(*opts, "DATASET.SUBSAMPLE_CLASSES", "all"))
    )
    with pytest.raises(ValueError, match=r"context has shape \(3, 4, 64\), the config makes \(6"):
        other.load_model(str(tmp_path))


@pytest.mark.parametrize("dataset", ["ImageNet", "ColoredShapes"])
def test_zero_shot_over_sentences(dataset, toy, tmp_path):
    trainer = build(command(toy, "ZeroshotCLIP2", tmp_path))
    clip, templates = trainer.clip, list(SELECTED_TEMPLATES)
    cfg = trainer.cfg.clone()
    cfg.defrost()
    cfg.DATASET.NAME = dataset
    method = trainer.Method(trainer.settings_of(cfg), clip, trainer.classnames, trainer.template)
    if dataset != "ImageNet":
        templates.append(trainer.dm.dataset.template)
    features = [normalize(clip.encode_text(clip.prompts(trainer.classnames, t))) for t in templates]
    assert torch.allclose(method.text_features(), normalize(sum(features)), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "opts", "message"),
    [
        (
            "CoOp",
            ("COOP.CLASS_TOKEN_POSITION", "start"),
            "is 'start'; allowed is one of end, middle",
        ),
        (
            "CoOp",
            ("COOP.CTX_INIT", "", "TRAINER.COOP.N_CTX", "0"),
            r"N_CTX is 0; allowed .*1 to 75",
        ),
        ("MaPLe", ("MAPLE.PROMPT_DEPTH", "4"), r"PROMPT_DEPTH is 4; allowed for .* to 3"),
        ("MaPLe", ("MAPLE.PROMPT_DEPTH", "0"), r"PROMPT_DEPTH is 0; allowed .* from 1 "),
        ("MaPLe", ("MAPLE.CTX_INIT", "photo"), r"2 learned words .*'photo' are 1 to 1"),
        ("IVLP", ("IVLP.PROMPT_DEPTH_TEXT", "4"), r"IVLP.PROMPT_DEPTH_TEXT is 4; .* to 3"),
        ("IVLP", ("IVLP.PROMPT_DEPTH_VISION", "5"), r"PROMPT_DEPTH_VISION is 5; .* to 4"),
        ("IVLP", ("IVLP.PROMPT_DEPTH_VISION", "-1"), r"DEPTH_VISION is -1; .* from 0 \(no tokens"),
        ("IVLP", ("IVLP.N_CTX_TEXT", "0"), r"N_CTX_TEXT is 0; .*VPT learns vision prompts alone"),
        ("PromptSRC", ("PROMPTSRC.N_CTX_VISION", "0"), r"N_CTX_VISION is 0; allowed .* from 1"),
        ("VPT", ("VPT.PROMPT_DEPTH_VISION", "0"), r"PROMPT_DEPTH_VISION is 0; allowed .* from 1"),
        ("VPT", ("VPT.PROMPT_DEPTH_VISION", "5"), r"VPT.PROMPT_DEPTH_VISION is 5; .* to 4"),
        ("PromptSRC", ("PROMPTSRC.GPA_STD", "-1"), r"GPA_STD is -1.0; allowed"),
        ("MaPLe", ("MAPLE.PREC", "fp16"), "fp16 needs a CUDA device"),
    ],
)
def test_wrong_settings_say_what_is_allowed(name, opts, message, toy, tmp_path):
    opts = (f"TRAINER.{opts[0]}", *opts[1:], "USE_CUDA", "False")
    with pytest.raises(ValueError, match=message):
        build(command(toy, name, tmp_path, opts=opts))
