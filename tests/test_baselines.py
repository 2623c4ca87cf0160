"""What is particular to each baseline, beside the contract and the golden numbers."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from dassl.utils import save_checkpoint
from frozen_clip import FrozenCLIP, insert, overwrite
from frozen_clip.prompts import token_counts, tokenize
from tests.test_frozen_clip import WORDS, assert_same
from tests.toy_run import build, classify, command
from tools.benchmark import plain
from trainers import cocoop, coop, ivlp, maple, vpt
from trainers.context import Context
from trainers.method import normalize
from trainers.promptsrc import gaussian_weights
from trainers.templates import SELECTED_TEMPLATES

MODEL = plain.random_clip(vision_width=128, embed=48, layers=(3, 4))
CLIP = FrozenCLIP(MODEL, "random")
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def state_of(trainer):
    return {name: value.clone() for name, value in trainer.method.learner.state_dict().items()}


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


# CoOp and CoCoOp


def coop_by_hand(context, position: str) -> torch.Tensor:
    """Text features of full prompts with the context (K, D) or (C, K, D) around the name."""
    count = context.shape[-2]
    ids_CL = tokenize([f"{'X ' * count}{name}." for name in WORDS])
    before = {"end": count, "middle": count // 2, "front": 0}[position]
    rows = []
    for c, length in enumerate(token_counts(WORDS).tolist()):
        own = context[c] if context.dim() == 3 else context
        words = MODEL.token_embedding(ids_CL[c])
        name, rest = words[1 + count : 1 + count + length], words[1 + count + length :]
        rows.append(torch.cat([words[:1], own[:before], name, own[before:], rest]))
    return plain.text(MODEL, ids_CL, {}, words_CLD=torch.stack(rows))


@pytest.mark.parametrize("position", ["end", "middle", "front"])
@pytest.mark.parametrize("class_specific", [False, True])
@pytest.mark.parametrize("init", ["", "a photo of a"])
def test_coop_places_its_context_around_the_name(position, class_specific, init):
    context = Context(init) if init else Context(count=3)
    learner = coop.ContextLearner(CLIP, context, len(WORDS) if class_specific else None)
    prompts, rows = CLIP.prompts(WORDS, context.template), None
    before = coop.words_before_name(position, context.count)
    if class_specific or position != "end":
        prompts, rows = coop.in_tails(prompts, WORDS, context.count, before)
    with torch.no_grad():
        learner.context += 0.1 * torch.randn_like(learner.context)
    w = coop.CoOpMethod(CLIP, prompts, learner, rows).text_features()
    assert_same(w, normalize(coop_by_hand(learner.context, position)))


def test_coop_learns_on_a_resnet_and_prompted_towers_refuse_it(toy, tmp_path):
    from clip.model import CLIP as OpenAIModel

    file = tmp_path / "rn.pt"
    torch.save(OpenAIModel(32, 32, (1, 1, 1, 1), 16, None, 77, 49408, 64, 1, 2).state_dict(), file)
    opts = ("MODEL.BACKBONE.NAME", str(file), "OPTIM.LR", "0.1")
    trainer = build(command(toy, "CoOp", tmp_path / "coop", opts=opts))
    before = state_of(trainer)
    trainer.train()
    assert not torch.equal(before["context"], trainer.method.learner.context)
    with pytest.raises(ValueError, match=r"ResNet CLIP.*ViT-B/16"):
        build(command(toy, "MaPLe", tmp_path / "maple", opts=opts))


def test_cocoop_in_pieces_is_the_same(monkeypatch):
    context = Context(count=2)
    learner = cocoop.ConditionalContextLearner(CLIP, context)
    method = cocoop.CoCoOpMethod(CLIP, CLIP.prompts(WORDS, context.template), learner)
    images = torch.randn(5, 3, 32, 32)
    whole = method(images)
    monkeypatch.setattr(cocoop, "MOST_PROMPTS", 2 * len(WORDS) + 1)
    assert_same(method(images), whole)
    assert_same(torch.cat([method(image[None]) for image in images]), whole)


# Deep prompts


def logits_by_hand(text_edits, vision_edits, ids_CL) -> torch.Tensor:
    w = F.normalize(plain.text(MODEL, ids_CL, text_edits), dim=-1)
    f = F.normalize(plain.vision(MODEL, IMAGES, vision_edits)[:, 0] @ MODEL.visual.proj, dim=-1)
    return MODEL.logit_scale.exp() * f @ w.T


def deep(tokens, first, at):
    """Tokens in the input, by the edit `first`, and afresh before layers 2, 3, ..."""
    later = {layer: overwrite(t, at) for layer, t in enumerate(tokens[1:], start=2)}
    return {0: first(tokens[0], at), **later}


BEHIND_PATCHES = 1 + 2 * 2


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize(("words", "count"), [("", 5), ("a photo of a", 2)])
def test_maple_equals_plain(layers, words, count):
    context = Context(words, count)
    prompts = CLIP.prompts(WORDS, context.template)
    learner = maple.CoupledPrompts(CLIP, context, layers)
    weight, bias = learner.coupling.weight, learner.coupling.bias
    assert weight.shape == (layers, 128, 64) and (layers < 3 or torch.equal(weight[1], weight[2]))
    vision = [F.linear(t, w, b) for t, w, b in zip(learner.text_tokens, weight, bias, strict=True)]
    text_edits = deep(learner.text_tokens, overwrite, at=1)
    vision_edits = deep(vision, insert, at=BEHIND_PATCHES)
    slow = logits_by_hand(text_edits, vision_edits, prompts.ids_CL)
    assert_same(maple.MaPLeMethod(CLIP, prompts, learner)(IMAGES), slow)


@pytest.mark.parametrize(("text_layers", "vision_layers"), [(1, 1), (4, 2), (2, 3)])
def test_ivlp_equals_plain(text_layers, vision_layers):
    context = Context("a photo of a", 3)
    prompts = CLIP.prompts(WORDS, context.template)
    learner = ivlp.IndependentPrompts(CLIP, context, text_layers, vision_layers, 2)
    text_edits = deep(learner.text_tokens, overwrite, at=1)
    vision_edits = deep(learner.vision_tokens, insert, at=BEHIND_PATCHES)
    slow = logits_by_hand(text_edits, vision_edits, prompts.ids_CL)
    assert_same(ivlp.IVLPMethod(CLIP, prompts, learner)(IMAGES), slow)


def test_vpt_equals_plain():
    prompts = CLIP.prompts(WORDS, "a photo of a {}.")
    learner = ivlp.VisionPrompts(CLIP, 2, 4)
    vision_edits = deep(learner.vision_tokens, insert, at=BEHIND_PATCHES)
    slow = logits_by_hand({}, vision_edits, prompts.ids_CL)
    assert_same(vpt.VPTMethod(CLIP, prompts, learner)(IMAGES), slow)


# PromptSRC's average

AVERAGED = ("OPTIM.MAX_EPOCH", "3", "TRAIN.CHECKPOINT_FREQ", "1", "TRAINER.PROMPTSRC.GPA_MEAN", "2")


def test_gaussian_weights():
    weights = torch.tensor(gaussian_weights(20, 15, 1), dtype=torch.float64)
    density = torch.exp(-0.5 * (torch.arange(1, 21).double() - 15) ** 2)
    assert torch.allclose(weights, density / density.sum())
    assert gaussian_weights(2, 500, 1)[1] == 1  # far away: no division by zero
    with pytest.raises(ValueError, match=r"GPA_STD is 0; allowed"):
        gaussian_weights(5, 1, 0)


def test_promptsrc_saves_and_tests_the_average(toy, tmp_path, monkeypatch):
    trainer = build(command(toy, "PromptSRC", tmp_path, opts=AVERAGED))
    epochs, run_epoch = [], trainer.run_epoch
    monkeypatch.setattr(
        trainer, "run_epoch", lambda: (run_epoch(), epochs.append(state_of(trainer)))
    )
    trainer.train()
    weights = gaussian_weights(3, 2, 1)
    saved = torch.load(tmp_path / "VLPromptLearner" / "model.pth.tar-3", weights_only=True)
    for name, value in trainer.method.learner.state_dict().items():
        mean = sum(w * epoch[name] for w, epoch in zip(weights, epochs, strict=True))
        assert torch.allclose(value, mean, atol=1e-6)
        assert torch.equal(saved["state_dict"][name], value)


def test_promptsrc_resumes_with_its_average(toy, tmp_path, monkeypatch):
    whole = build(command(toy, "PromptSRC", tmp_path / "whole", opts=AVERAGED))
    whole.train()
    broken = build(command(toy, "PromptSRC", tmp_path / "parts", opts=AVERAGED))

    def break_off():
        if broken.epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(broken, "before_epoch", break_off)
    with pytest.raises(KeyboardInterrupt):
        broken.train()
    broken.close_writer()
    resumed = build(command(toy, "PromptSRC", tmp_path / "parts", opts=AVERAGED))
    resumed.train()
    assert resumed.start_epoch == 2
    for name, value in state_of(whole).items():
        assert torch.equal(resumed.method.learner.state_dict()[name], value), name


# Zero-shot with several sentences


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


# Public checkpoints and wrong settings


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
    return {key: torch.randn(shape).half() for key, shape in shapes.items()}


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
        ("IVLP", ("IVLP.N_CTX_VISION", "0"), r"IVLP.N_CTX_VISION is 0; allowed .* from 1"),
        ("VPT", ("VPT.PROMPT_DEPTH_VISION", "5"), r"VPT.PROMPT_DEPTH_VISION is 5; .* to 4"),
        ("PromptSRC", ("PROMPTSRC.GPA_STD", "-1"), r"GPA_STD is -1.0; allowed"),
        ("MaPLe", ("MAPLE.PREC", "fp16"), "fp16 needs a CUDA device"),
    ],
)
def test_wrong_settings_say_what_is_allowed(name, opts, message, toy, tmp_path):
    opts = (f"TRAINER.{opts[0]}", *opts[1:], "USE_CUDA", "False")
    with pytest.raises(ValueError, match=message):
        build(command(toy, name, tmp_path, opts=opts))


def test_a_context_of_its_own_for_each_class_is_for_these_classes(toy, tmp_path):
    opts = ("TRAINER.COOP.CSC", "True", "TRAINER.COOP.CTX_INIT", "")
    build(command(toy, "CoOp", tmp_path, opts=opts)).train()
    other = build(
        command(toy, "CoOp", tmp_path / "all", opts=(*opts, "DATASET.SUBSAMPLE_CLASSES", "all"))
    )
    with pytest.raises(ValueError, match=r"context has shape \(3, 4, 64\), the config makes \(6"):
        other.load_model(str(tmp_path))
