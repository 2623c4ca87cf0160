"""MMA against its plain version, over random settings; its start, its refusals, its checkpoints."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from frozen_clip import FrozenCLIP, reference
from tests.helpers.golden_files import Golden
from tests.helpers.toy_run import build, command, state_of
from tests.trainers.test_public_checkpoints import (
    golden_clip,  # noqa: F401  # a fixture
    golden_trainer,
    save_public,
)
from tools.convert_checkpoint import convert
from trainers.mma import MMAMethod, MMASettings

MODEL = reference.random_clip(vision_width=128, embed=48, layers=(4, 5))
FAST, PLAIN = FrozenCLIP(MODEL, "random"), reference.PlainCLIP(MODEL)
NAMES = ["cat", "a very long name", "dog house"]
IMAGES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([2, 0, 1])
PLACE = "adapter_learner/model.pth.tar-5"


class Plain(MMAMethod):
    """The function of the paper, with its own gradients."""

    def beside(self, tower, place, unscaled, h):
        return self.settings.adapter_scale * self.learner.branch(tower, place, h)


def method_of(cls, clip, given: MMASettings) -> MMAMethod:
    """Its biases are random, too."""
    torch.manual_seed(1)
    method = cls(given, clip, NAMES)
    with torch.no_grad():
        for parameter in method.learner.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return method


def logits_and_gradients(method):
    logits = method(IMAGES)
    method.backward(method.losses(logits, LABELS), lambda loss: loss)
    return logits.detach(), {n: p.grad for n, p in method.learner.named_parameters()}


SETTINGS = st.builds(
    lambda ends, **given: MMASettings(adapter_start=min(ends), adapter_end=max(ends), **given),
    ends=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    adapter_dim=st.integers(1, 40),
    adapter_scale=st.sampled_from([1e-3, 0.05, 1.0, 1.5]),
    text_ctx_init=st.sampled_from(["", "a_photo of a"]),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SETTINGS)
def test_outputs_and_gradients(given):
    """Gradients are those of the function, divided by the scale in all layers but the input."""
    logits, gradients = logits_and_gradients(method_of(MMAMethod, FAST, given))
    theirs, true = logits_and_gradients(method_of(Plain, PLAIN, given))
    assert (logits - theirs).abs().max() < 1e-4
    factor = torch.tensor([1 / given.adapter_scale if i else 1.0 for i in given.layers])
    for name, gradient in gradients.items():
        expected = true[name] * factor.view(-1, *[1] * (gradient.dim() - 1))
        for layer, ours in enumerate(gradient):
            largest = expected[layer].abs().max()
            assert (ours - expected[layer]).abs().max() <= 1e-4 * largest + 1e-7, (name, layer)


def test_how_the_learner_starts():
    """Kaiming's normal by what goes out, for a ReLU; each layer a draw of its own."""
    given = MMASettings(adapter_start=2, adapter_end=4, adapter_dim=96)
    torch.manual_seed(1)
    learner = MMAMethod(given, FAST, NAMES).learner
    for part in (learner.vision.down, learner.text.up, learner.shared):
        expected = torch.empty(part.weight.shape[1:])
        nn.init.kaiming_normal_(expected, mode="fan_out", nonlinearity="relu")
        assert part.weight.std().item() == pytest.approx(expected.std().item(), rel=0.04)
    assert len(learner.shared.weight.flatten(1).unique(dim=0)) == 3
    assert not any(p.any() for n, p in learner.named_parameters() if n.endswith("bias"))


def test_parameters_of_vit_b16(monkeypatch):
    monkeypatch.setattr(FAST.vision, "width", 768)
    monkeypatch.setattr(FAST.text, "width", 512)
    for start, count in ((5, 674_560), (9, 337_280)):
        learner = MMAMethod.Learner(MMASettings(adapter_start=start), FAST)
        assert sum(p.numel() for p in learner.parameters()) == count


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        ({"adapter_end": 5}, r"ADAPTER_END 5; allowed for random are layers from 0 .* to 4,"),
        ({"adapter_start": 4}, r"ADAPTER_START is 4 and .*END 3; .* not above the end"),
        ({"adapter_start": -1}, r"ADAPTER_START is -1; allowed is a whole number from 0"),
        ({"adapter_dim": 64}, r"ADAPTER_DIM is 64, .* width of a tower.* than 128 and 64, such as"),
        ({"adapter_dim": 128}, r"ADAPTER_DIM is 128, which is the width"),
        ({"adapter_scale": 0.0}, r"ADAPTER_SCALE is 0.0; allowed is a number above 0"),
        ({"text_ctx_init": "a photo of {}"}, r"TEXT_CTX_INIT is 'a photo of {} {}.'"),
    ],
)
def test_what_is_refused(opts, message):
    with pytest.raises(ValueError, match=message):
        MMAMethod(MMASettings(**{"adapter_start": 2, "adapter_end": 3, **opts}), FAST, NAMES)


# Checkpoints of the published code, whose layers start where ADAPTER_START says


def published_by_hand(start: int, end: int, dim: int = 8) -> dict[str, torch.Tensor]:
    """The tensors of a learner on the golden CLIP, by the published names."""
    state, draw = {}, torch.Generator().manual_seed(start)
    shapes = {"down.0": (dim, 64), "up": (64, dim), "0": (dim, dim)}
    for layer in range(start, end + 1):
        towers = [f"{t}_adapter.{layer}.{p}" for t in ("text", "visual") for p in ("down.0", "up")]
        for part in (*towers, f"shared_adapter.{layer}.0"):
            shape = shapes[part.split(".", 2)[2]]
            state[f"{part}.weight"] = torch.randn(shape, generator=draw)
            state[f"{part}.bias"] = torch.randn(shape[0], generator=draw)
    return state


@pytest.fixture
def trainer(toy, golden_clip, tmp_path):  # noqa: F811
    """`trainer(START, END, ...)` on the golden CLIP."""

    def of(start, end, *opts):
        node, golden = "TRAINER.MMADAPTER.ADAPTER", Golden("baselines/mma_top.npz")
        opts = (f"{node}_START", str(start), f"{node}_END", str(end), *opts)
        return golden_trainer(golden, toy, golden_clip[0], tmp_path / "ours", *opts)

    return of


@pytest.mark.parametrize("start", [5, 9])
def test_a_public_run_starts_at_its_own_layer(start, trainer, tmp_path):
    """It is read, layer by layer; goes round through our files; other layers are refused."""
    state = published_by_hand(start, 12)
    frozen = {"token_embedding": torch.zeros(3, 77, 64), "tokenized_prompts": torch.zeros(3, 77)}
    run = str(save_public(tmp_path / "public", "adapter_learner", {**state, **frozen}))
    fits = trainer(start, 12)
    fits.load_model(run)
    ours = state_of(fits)
    for place, layer in enumerate(range(start, 13)):
        assert torch.equal(ours["vision.up.bias"][place], state[f"visual_adapter.{layer}.up.bias"])
        assert torch.equal(ours["shared.weight"][place], state[f"shared_adapter.{layer}.0.weight"])
    with pytest.raises(ValueError, match=f"START is {start - 1}, trained with {start}: use"):
        trainer(start - 1, 11).load_model(run)
    needed = rf"ADAPTER_START/ADAPTER_END makes {12 - start}, needed is {13 - start}"
    with pytest.raises(ValueError, match=needed):
        trainer(start, 11).load_model(run)
    convert(tmp_path / "public", tmp_path / "l.safetensors")
    convert(tmp_path / "l.safetensors", tmp_path / "again.pth")
    convert(tmp_path / "again.pth", tmp_path / "back", to="public")
    back = torch.load(tmp_path / "back" / PLACE, weights_only=True)["state_dict"]
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], value) for name, value in state.items())


def test_layers_of_our_runs_are_in_their_config(toy, tmp_path):
    """A file alone does not say them."""
    run = build(command(toy, "MultiModalAdapter", tmp_path / "run"))
    run.train()
    file = tmp_path / "run" / "adapter_learner" / "model.pth.tar-2"
    with pytest.raises(ValueError, match=r"in which layer Multi.* starts \(ADAPTER_START\): conv"):
        convert(file, tmp_path / "theirs", to="public")
    (tmp_path / "run" / "config.yaml").write_text(run.cfg.dump())
    convert(file, tmp_path / "theirs.pth", to="public")
    theirs = torch.load(tmp_path / "theirs.pth", weights_only=True)["state_dict"]
    assert {int(name.split(".")[1]) for name in theirs} == {2, 3}


@pytest.mark.parametrize(
    ("key", "value"), [("ADAPTER_SCALE", "0.5"), ("TEXT_CTX_INIT", "a drawing of a")]
)
def test_a_run_is_evaluated_with_its_own_scale_and_words(key, value, toy, tmp_path):
    run = build(command(toy, "MultiModalAdapter", tmp_path / "run"))
    run.train()
    (tmp_path / "run" / "config.yaml").write_text(run.cfg.dump())
    opts = (f"TRAINER.MMADAPTER.{key}", value)
    other = build(command(toy, "MultiModalAdapter", tmp_path / "other", opts=opts))
    with pytest.raises(ValueError, match=rf"{key} is {value}, trained with"):
        other.load_model(str(tmp_path / "run"))


def test_parts_that_start_at_different_layers_are_no_run(trainer, tmp_path):
    state = published_by_hand(9, 12)
    del state["shared_adapter.9.0.bias"]
    run = save_public(tmp_path / "public", "adapter_learner", state)
    with pytest.raises(ValueError, match=r"shared.bias is missing"):
        trainer(9, 12).load_model(str(run))
