"""CLIP-LoRA: the published numbers with its dropout's masks, positions, steps, its one file."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from dassl.optim import build_lr_scheduler, build_optimizer
from frozen_clip import FrozenCLIP, described, reference
from frozen_clip.weights.state_dict import build as build_clip
from tests.frozen_clip.test_frozen_clip import assert_same
from tests.helpers.golden_files import (
    LOGITS,
    REST,
    Golden,
    assert_close,
    clip,
    clip_state,
    loss_and_gradients,
)
from tests.helpers.toy_run import build, classify, command, config, refused, state_of, variant
from tools.convert_checkpoint import convert
from trainers.clip_lora import CLIPLoRA, CLIPLoRAMethod, CLIPLoRASettings, LowRank, layers_at
from training.published import nested, published

WEIGHTS = "fits/clip_lora.npz"
MODEL = reference.random_clip(vision_width=128, embed=48, layers=(3, 4))
NAMES = ["cat", "a very long name", "dog house"]
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def assert_gradients(method: CLIPLoRAMethod, golden: Golden) -> None:
    theirs = golden.ours("grad")
    ours = {name: p.grad for name, p in method.learner.named_parameters()}
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        assert_close(gradient, theirs[name], REST, name)


def test_golden_steps_by_the_published_settings(toy, tmp_path):
    """Loss, gradients and six steps with the optimizer and the rates of vit_b16.yaml."""
    file = str(variant("CLIPLoRA", "vit_b16"))
    cfg, _ = config(*command(toy, "CLIPLoRA", tmp_path, "--config-file", file))
    golden = Golden(WEIGHTS)
    method, images = golden.method(), golden["in/images"]
    assert torch.equal(method.prompts.ids_CL, golden["in/token_ids"].long())
    assert_close(method(images), golden["out/logits"], LOGITS)
    assert_close(loss_and_gradients(method, golden), golden["out/loss"], REST)
    assert_gradients(method, golden)
    optimizer = build_optimizer(method.learner, cfg.OPTIM)
    schedule = build_lr_scheduler(optimizer, cfg.OPTIM, steps=6)
    for loss, rate in zip(golden["traj/losses"], golden["traj/lr"], strict=True):
        optimizer.zero_grad()
        assert_close(loss_and_gradients(method, golden), loss, REST)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(float(rate), abs=1e-12)
        optimizer.step()
        schedule.step()
    for name, value in golden.ours("after6").items():
        assert_close(method.learner.state_dict()[name], value, REST, name)
    method.eval()
    logits = method.classify(images, method.text_features(), seen=False)
    assert_close(logits, golden["eval6/logits"], LOGITS)


class Recorded(nn.Module):
    """A dropout whose mask (rows, sequences, D) is given; where the sequences are prompts, their
    `rows`, one prompt after another, are taken of it."""

    def __init__(self, packed: np.ndarray, rate: float, rows=None):
        super().__init__()
        kept = torch.from_numpy(np.unpackbits(packed, axis=-1)).float().transpose(0, 1)
        self.kept = kept if rows is None else kept[rows][None]
        self.rate = rate

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return h * self.kept / (1 - self.rate) if h.numel() else h


def test_golden_dropout():
    """Each class has masks of its own, for all of its words."""
    golden = Golden("fits/clip_lora_dropout.npz")
    names, settings = golden.meta["classnames"], replace(golden.settings(), shared_masks=False)
    assert settings.dropout_rate == 0.25
    method = CLIPLoRAMethod(settings, clip(), names)
    method.learner.load_state_dict(golden.ours("param"))
    prompts, images = method.apart, golden["in/images"]
    order = prompts.place_C.argsort().tolist()
    lengths = [int(prompts.ids_CL[c].argmax()) + 1 for c in order]
    rows = (
        torch.tensor([c for c, n in zip(order, lengths, strict=True) for _ in range(n)]),
        torch.cat([torch.arange(n) for n in lengths]),
    )
    for number, layer in enumerate(method.learner.layers):
        for name, term in layer.items():
            packed = golden[f"dropout/layer_{number}.{name}_proj"].numpy()
            term.dropout = Recorded(packed, 0.25, rows if number < 3 else None)
    assert_close(method(images), golden["out/logits"], LOGITS)
    assert_close(loss_and_gradients(method, golden), golden["out/loss"], REST)
    assert_gradients(method, golden)
    plain = CLIPLoRAMethod(settings, clip(), names)
    plain.learner.load_state_dict(golden.ours("param"))
    plain.learner.eval()  # as the engine does
    assert_close(plain(images), golden["eval/logits"], LOGITS)


def method_of(clip=None, names=NAMES, **keys) -> CLIPLoRAMethod:
    torch.manual_seed(0)
    method = CLIPLoRAMethod(CLIPLoRASettings(**keys), clip or FrozenCLIP(MODEL, "toy"), names)
    for name, parameter in method.learner.named_parameters():
        if name.endswith("B"):
            nn.init.normal_(parameter, std=0.1)
    return method


@pytest.mark.parametrize(
    ("encoder", "position", "params"),
    [
        ("both", "all", ("q", "k", "v", "o")),
        ("both", "top3", ("v",)),
        ("text", "half-up", ("o", "k")),
        ("vision", "mid", ("q", "k", "v")),
    ],
)
def test_equals_the_plain_version(encoder, position, params):
    keys = {"encoder": encoder, "position": position, "params": params, "r": 3, "alpha": 2.0}
    found = []
    for model in (FrozenCLIP(MODEL, "toy"), reference.PlainCLIP(MODEL)):
        method = method_of(model, **keys, dropout_rate=0.0)
        logits = method(IMAGES)
        learned = list(method.learner.parameters())
        loss = (logits * torch.linspace(-1, 1, logits.numel()).view_as(logits)).sum()
        found.append((logits, torch.autograd.grad(loss, learned)))
    assert_same(found[0][0], found[1][0])
    for ours, theirs in zip(found[0][1], found[1][1], strict=True):
        assert_same(ours, theirs)
    method = method_of(**keys)
    assert method.text_features().requires_grad == (encoder != "vision")
    assert method.image_features(IMAGES).requires_grad == (encoder != "text")


def test_the_start():
    """The frozen CLIP, at scale 100: each A by itself uniform to 1 / sqrt(D), each B zero."""
    method = method_of(params=("q", "o"), r=40)
    torch.manual_seed(0)
    method.learner = method.build_learner(3)
    terms = [m for m in method.learner.modules() if isinstance(m, LowRank)]
    assert [term.A.shape[1] for term in terms] == [64] * 8 + [128] * 6
    for term in terms:
        bound = 1 / math.sqrt(term.A.shape[1])
        assert 0.98 * bound < term.A.abs().max() <= bound
        assert term.A.mean().abs() < 0.05 * bound and not term.B.any()
        assert term.scale == 1 / math.sqrt(40)
    assert len({float(term.A[0, 0].detach()) for term in terms}) == len(terms)
    frozen = method.clip.encode_image(IMAGES), method.clip.encode_text(method.prompts)
    f, w = (nn.functional.normalize(x, dim=-1) for x in frozen)
    assert_same(method(IMAGES), 100 * f @ w.T)
    assert method.describe(seen=True)["scale"] == 100


class Counted(nn.Identity):
    rows = 0

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        self.rows += h.shape[:-1].numel()
        return super().forward(h)


@pytest.mark.parametrize("shared", [True, False])
def test_what_masks_are_shared(shared):
    """The words before the names are masked once or for each class. A test has no masks."""
    method = method_of(encoder="text", shared_masks=shared)
    first = method.learner.layers[0]["q"]
    first.dropout = Counted()
    lengths = [int(n) + 1 for n in method.prompts.ids_CL.argmax(dim=1)]
    once = len(method.prompts.prefix_P)
    assert once == 5  # start of text, 'a photo of a'
    method.text_features()
    assert first.dropout.rows == (sum(lengths) - 2 * once if shared else sum(lengths))
    assert not torch.equal(method.text_features(), method.text_features())
    method.learner.eval()
    w = method.text_features()
    assert torch.equal(w, method.text_features())
    assert_same(w, method_of(reference.PlainCLIP(MODEL), encoder="text").eval().text_features())


def test_positions():
    found = {name: [*layers_at(name, 12)] for name in ("bottom", "mid", "up", "top3")}
    assert found == {
        "bottom": [1, 2, 3, 4],
        "mid": [5, 6, 7, 8],
        "up": [9, 10, 11, 12],
        "top3": [10, 11, 12],
    }
    halves = [*layers_at("half-bottom", 12)], [*layers_at("half-up", 12)]
    assert halves == ([1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12])
    assert [*layers_at("half-up", 24)] == [*range(13, 25)]
    assert all([*layers_at("all", depth)] == [*range(1, depth + 1)] for depth in (1, 3, 24))


NODE = "TRAINER.CLIPLORA"


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (("POSITION", "mid"), r"POSITION is mid, but the vision tower of .* has 4 layers, .*: all"),
        (("POSITION", "half-up"), r"half-up, but the text tower of .* has 3 .*: all, .* top3"),
        (("PARAMS", "['q', 'q']"), r"PARAMS is .*each once"),
        (("PARAMS", "['q', 'x']"), r"PARAMS is .*some of q, k, v, o"),
        (("DROPOUT_RATE", "1.0"), r"DROPOUT_RATE is 1.0; allowed is a number from 0 and below 1"),
        (("R", "0"), r"R is 0; allowed is a whole number from 1"),
    ],
)
def test_what_is_refused(opts, message, toy, tmp_path):
    key, value = opts
    with pytest.raises(ValueError, match=message):
        build(command(toy, "CLIPLoRA", tmp_path, opts=(f"{NODE}.{key}", value)))


def test_a_dropout_is_not_compiled(toy, tmp_path):
    opts = ("TRAIN.COMPILE", "True")
    with pytest.raises(ValueError, match=r"COMPILE is True.*TRAINER.CLIPLORA.DROPOUT_RATE to 0"):
        build(command(toy, "CLIPLoRA", tmp_path, opts=opts))
    build(command(toy, "CLIPLoRA", tmp_path, opts=(*opts, f"{NODE}.DROPOUT_RATE", "0.0")))


def test_steps_are_counted_by_shots_and_a_run_goes_on(toy, tmp_path):
    """Eight steps in epochs of three; a run that broke in its fifth ends with the same weights."""
    batch = ("DATALOADER.TRAIN_X.BATCH_SIZE", "2")  # of six images: three batches
    opts = (f"{NODE}.N_ITERS", "4", "TRAIN.CHECKPOINT_EVERY", "1 steps", *batch)
    whole = build(command(toy, "CLIPLoRA", tmp_path / "whole", opts=opts))
    whole.train()
    assert (whole.total_steps, whole.max_epoch, whole.epoch, whole.batch_idx) == (8, 3, 2, 1)
    assert whole.optim.param_groups[0]["lr"] == pytest.approx(1e-6)
    broken = build(command(toy, "CLIPLoRA", tmp_path / "broken", opts=opts))
    step, done = broken.forward_backward, []

    def fails(images):
        done.append(1)
        if len(done) == 5:
            raise KeyboardInterrupt
        return step(images)

    broken.forward_backward = fails
    with pytest.raises(KeyboardInterrupt):
        broken.train()
    again = build(command(toy, "CLIPLoRA", tmp_path / "broken", opts=opts))
    again.train()
    assert again.start_epoch == 1
    expected = state_of(whole)
    assert all(torch.equal(expected[name], value) for name, value in state_of(again).items())


def test_all_images_have_no_number_of_steps(toy, tmp_path, capsys):
    """A run that trains is refused; one that tests is not."""
    shots = ("DATASET.NUM_SHOTS", "-1")
    arguments = command(toy, "CLIPLoRA", tmp_path / "a", opts=(*shots, f"{NODE}.N_ITERS", "3"))
    wrong = "TRAINER.CLIPLORA.N_ITERS is 3 steps for each shot, but DATASET.NUM_SHOTS is -1"
    assert wrong in refused(capsys, arguments)
    build(command(toy, "CLIPLoRA", tmp_path / "b", opts=shots)).train()
    build(arguments).load_model(str(tmp_path / "b"))


# The published code's file


@pytest.fixture
def public(toy, tmp_path):
    """The golden parameters as that code saves them, and a trainer's arguments for them."""
    golden = Golden(WEIGHTS)
    file = tmp_path / "golden.pt"
    torch.save(described(build_clip(clip_state())), file)
    metadata = {"r": 2, "alpha": 1, "encoder": "both", "params": ["q", "k", "v"]}
    content = {"weights": nested(golden.group("param")), "metadata": metadata}
    content["metadata"] |= {"position": "half-up"}
    (tmp_path / "public").mkdir()
    torch.save(content, tmp_path / "public" / "lora_weights.pt")
    opts = ("MODEL.BACKBONE.NAME", str(file), f"{NODE}.POSITION", "half-up")
    return (
        golden,
        tmp_path / "public",
        lambda *more: build(command(toy, "CLIPLoRA", tmp_path / "out", opts=(*opts, *more))),
    )


def golden_logits(trainer, golden: Golden) -> torch.Tensor:
    settings, names = trainer.settings, golden.meta["classnames"]
    method = CLIPLoRAMethod(settings, trainer.clip, names).eval()
    method.learner.load_state_dict(trainer.method.learner.state_dict())
    return method(golden["in/images"])


def test_its_file_is_read(public):
    golden, folder, trainer_of = public
    trainer = trainer_of()
    trainer.load_model(str(folder))
    assert_close(golden_logits(trainer, golden), golden["out/logits"], LOGITS)
    with pytest.raises(FileNotFoundError, match="leave --load-epoch out"):
        trainer.load_model(str(folder), epoch=5)
    trainer_of().save_model(1, str(folder))  # a run of ours in the same folder comes first
    trainer.load_model(str(folder))
    assert all(not v.any() for k, v in state_of(trainer).items() if k.endswith("B"))


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (("R", "4", "ALPHA", "2.0"), r"R is 4, trained with 2: .*\n.*ALPHA is 2.0, trained with 1"),
        (("PARAMS", "['q', 'v']"), r"PARAMS is \['q', 'v'\], trained with \['q', 'k', 'v'\]"),
        (("ENCODER", "text"), r"ENCODER is text, trained with both: use TRAINER.CLIPLORA.ENCODER"),
        (("POSITION", "up"), r"POSITION is up, trained with half-up"),
    ],
)
def test_other_settings_than_its_metadata_are_named(opts, message, public):
    _, folder, trainer_of = public
    named = [f"{NODE}.{word}" if number % 2 == 0 else word for number, word in enumerate(opts)]
    with pytest.raises(ValueError, match=message):
        trainer_of(*named).load_model(str(folder))


def test_shapes_name_their_keys(public):
    """Where there are no metadata."""
    golden, folder, trainer_of = public
    torch.save({"weights": nested(golden.group("param"))}, folder / "lora_weights.pt")
    wrong = r"layers.0.k.A has shape \(2, 64\), .*TRAINER.CLIPLORA.R makes 3, needed is 2"
    with pytest.raises(ValueError, match=wrong):
        trainer_of(f"{NODE}.R", "3").load_model(str(folder))


def test_its_file_is_converted_and_back(public, tmp_path):
    _, folder, trainer_of = public
    convert(folder, tmp_path / "ours")
    ours = torch.load(tmp_path / "ours/lora/model.pth.tar-0", weights_only=True)
    assert ours["state_dict"].keys() == state_of(trainer_of()).keys()
    with pytest.raises(ValueError, match="POSITION is up, trained with half-up"):
        trainer_of(f"{NODE}.POSITION", "up").load_model(str(tmp_path / "ours"))
    convert(tmp_path / "ours", tmp_path / "back", to="public")
    back, there = (
        torch.load(place / "lora_weights.pt", weights_only=True)
        for place in (tmp_path / "back", folder)
    )
    assert back["metadata"] == there["metadata"]
    for layer, parts in there["weights"].items():
        for name, pair in parts.items():
            assert all(torch.equal(back["weights"][layer][name][k], v) for k, v in pair.items())
    convert(folder, tmp_path / "w.safetensors")
    convert(tmp_path / "w.safetensors", tmp_path / "lora_weights.pt", to="public")
    again = torch.load(tmp_path / "lora_weights.pt", weights_only=True)
    assert again["metadata"] == there["metadata"]
    torch.save({"state_dict": ours["state_dict"], "epoch": 1}, tmp_path / "bare.pt")
    with pytest.raises(ValueError, match=r"also says r, alpha, .* no config.yaml of CLIPLoRA"):
        convert(tmp_path / "bare.pt", tmp_path / "more.pt", to="public")


def test_our_run_as_its_file(toy, tmp_path):
    """Of the projections that were trained; the settings are those of the run."""
    opts = (f"{NODE}.PARAMS", "['o', 'v']", f"{NODE}.ENCODER", "vision", f"{NODE}.POSITION", "top3")
    trainer = build(command(toy, "CLIPLoRA", tmp_path / "run", opts=opts))
    trainer.train()
    (tmp_path / "run" / "config.yaml").write_text(trainer.cfg.dump())
    convert(tmp_path / "run", tmp_path / "theirs", to="public")
    content = torch.load(tmp_path / "theirs" / "lora_weights.pt", weights_only=True)
    assert list(content["weights"]) == ["layer_0", "layer_1", "layer_2"]
    assert content["weights"]["layer_2"].keys() == {"proj", "v_proj"}
    given = {"r": 2, "alpha": 1, "encoder": "vision", "params": ["o", "v"], "position": "top3"}
    assert content["metadata"] == given
    other = build(command(toy, "CLIPLoRA", tmp_path / "other", opts=opts))
    other.load_model(str(tmp_path / "theirs"))
    assert torch.equal(classify(other), classify(trainer))
    assert published(CLIPLoRA).map_of(state_of(trainer)).tensors.keys() == state_of(trainer).keys()
