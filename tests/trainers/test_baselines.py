"""What is particular to each baseline, beside the contract and its numbers."""

from types import SimpleNamespace

import pytest
import torch

import train
from dassl.utils import save_checkpoint
from frozen_clip import described
from tests.helpers.toy_run import build, classify, command, state_of
from tools.convert_checkpoint import convert
from trainers import cocoop, coop, ivlp, maple
from training.learned_context import Context
from training.method import normalize
from training.templates import SELECTED_TEMPLATES


@pytest.mark.parametrize(
    ("build_learner", "count"),
    [
        (lambda clip: coop.ContextLearner(clip, Context(count=4)), 2_048),
        (lambda clip: cocoop.ConditionalContextLearner(clip, Context(count=4)), 35_360),
        (lambda clip: maple.CoupledPrompts(clip, Context(count=2), 9), 3_555_072),
        (lambda clip: ivlp.IndependentPrompts(clip, Context(count=4), 9, 9, 4), 46_080),
    ],
)
def test_as_many_parameters_as_the_papers_say(build_learner, count):
    vit_b16 = SimpleNamespace(
        text=SimpleNamespace(width=512), vision=SimpleNamespace(width=768), embed_dim=512
    )
    assert sum(p.numel() for p in build_learner(vit_b16).parameters()) == count


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
    clip, templates = trainer.method.clip, list(SELECTED_TEMPLATES)
    if dataset == "ImageNet":
        trainer.cfg = trainer.cfg.clone()
        trainer.cfg.defrost()
        trainer.cfg.DATASET.NAME = dataset
        method = trainer.build_method(clip, trainer.method.prompts[-1])
    else:
        method = trainer.method
        templates.append(trainer.dm.dataset.template)
    features = [normalize(clip.encode_text(clip.prompts(trainer.classnames, t))) for t in templates]
    assert torch.allclose(method.text_features(), normalize(sum(features)), atol=1e-6)


def public_state(name: str, layers: int = 3) -> dict[str, torch.Tensor]:
    """What a public checkpoint for the narrow CLIP holds, with some of what is not learned."""
    deeper = range(1, layers)
    frozen = {"image_encoder.conv1.weight": (64, 3, 16, 16), "prompt_learner.token_prefix": (3, 1)}
    vision = {"image_encoder.VPT": (4, 64)}
    vision |= {f"image_encoder.transformer.resblocks.{i}.VPT_shallow": (4, 64) for i in deeper}
    text = {"prompt_learner.ctx": (4, 64)}
    text |= {f"text_encoder.transformer.resblocks.{i}.VPT_shallow": (4, 64) for i in deeper}
    coupled = {"prompt_learner.ctx": (2, 64), "prompt_learner.proj.weight": (64, 64)}
    coupled["prompt_learner.proj.bias"] = (64,)
    for i in range(layers - 1):
        coupled[f"prompt_learner.compound_prompts_text.{i}"] = (2, 64)
        projection = f"prompt_learner.compound_prompt_projections.{i}"
        coupled |= {f"{projection}.weight": (64, 64), f"{projection}.bias": (64,)}
    meta_net = {"linear1.weight": (2, 32), "linear1.bias": (2,), "linear2.weight": (64, 2)}
    meta_net = {f"meta_net.{key}": shape for key, shape in meta_net.items()}
    context = {"ctx": (4, 64), "token_prefix": (3, 1, 64), "token_suffix": (3, 72, 64)}
    shapes = {
        "CoOp": context,
        "CoCoOp": {**context, **meta_net, "meta_net.linear2.bias": (64,)},
        "MaPLe": {**coupled, **frozen},
        "IVLP": {**text, **vision, **frozen},
        "PromptSRC": {**text, **vision, **frozen},
        "VPT": {**vision, **frozen},
    }[name]
    return {key: torch.randn(shape).to(torch.float16) for key, shape in shapes.items()}


@pytest.mark.parametrize("none", [("N_CTX_VISION",), ("N_CTX_VISION", "PROMPT_DEPTH_VISION")])
def test_ivlp_of_the_text_tower_alone(none, toy, tmp_path):
    """Trains the text tokens; images are those of zero-shot CLIP. Public runs of it are read."""
    opts = tuple(word for key in none for word in (f"TRAINER.IVLP.{key}", "0"))
    assert train.main(command(toy, "IVLP", tmp_path / "run", opts=opts)) == 0
    saved = torch.load(tmp_path / "run/VLPromptLearner/model.pth.tar-2", weights_only=True)
    assert saved["state_dict"].keys() == {"text_tokens"}
    trainer = build(command(toy, "IVLP", tmp_path / "again", opts=opts))
    before = state_of(trainer)
    trainer.load_model(str(tmp_path / "run"))
    assert not torch.equal(state_of(trainer)["text_tokens"], before["text_tokens"])
    images = torch.randn(2, 3, 32, 32)
    f, _ = trainer.method.image_features(images)
    assert torch.equal(f, normalize(trainer.clip.encode_image(images)))
    text = {k: v for k, v in public_state("IVLP").items() if "image_encoder.VPT" not in k}
    text = {k: v for k, v in text.items() if "image" not in k or "VPT" not in k}
    save_checkpoint({"state_dict": text, "epoch": 5}, tmp_path / "public" / "VLPromptLearner")
    trainer.load_model(str(tmp_path / "public"))
    assert torch.equal(state_of(trainer)["text_tokens"][0], text["prompt_learner.ctx"].float())
    said = convert(tmp_path / "public", tmp_path / "ours")
    assert f"{text['prompt_learner.ctx'].numel() * 3:,} values that IVLP learned" in said
    convert(tmp_path / "ours", tmp_path / "back", to="public")
    back = torch.load(tmp_path / "back/VLPromptLearner/model.pth.tar-5", weights_only=True)
    assert torch.equal(back["state_dict"]["prompt_learner.ctx"], text["prompt_learner.ctx"].float())
    both = {"state_dict": public_state("IVLP"), "epoch": 5}
    save_checkpoint(both, tmp_path / "both" / "VLPromptLearner")
    with pytest.raises(ValueError, match="what IVLP or PromptSRC learns"):
        trainer.load_model(str(tmp_path / "both"))


@pytest.mark.parametrize("name", ["CoOp", "CoCoOp", "MaPLe", "IVLP", "PromptSRC", "VPT"])
def test_public_checkpoints_load(name, toy, tmp_path):
    trainer = build(command(toy, name, tmp_path / "run"))
    before = state_of(trainer)
    state = public_state(name)
    save_checkpoint({"state_dict": state, "epoch": 5}, tmp_path / "public" / trainer.model_name)
    trainer.load_model(str(tmp_path / "public"), epoch=5)
    assert all(not torch.equal(before[key], value) for key, value in state_of(trainer).items())
    learned = {round(float(v), 3) for value in state_of(trainer).values() for v in value.flatten()}
    first = "image_encoder.VPT" if name == "VPT" else "ctx"
    public = state.get(first, state.get(f"prompt_learner.{first}"))
    assert {round(float(v), 3) for v in public.flatten()} <= learned
    assert classify(trainer).isfinite().all()


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
