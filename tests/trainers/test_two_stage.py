"""TwoStage: the published numbers of both stages, one optimizer as two, the change, class names."""

import pytest
import torch

from frozen_clip import FrozenCLIP, reference
from tests.helpers.golden_files import LOGITS, REST, Golden, assert_close, clip
from tests.helpers.toy_run import build, classify, command, refused, state_of
from tools.convert_checkpoint import convert
from tools.predict import load
from trainers.two_stage import TwoStage, TwoStageMethod, TwoStageSettings
from training.checkpoints import load_learner
from training.class_bound import encode
from training.method import normalize
from training.published import KeyMap, published

NODE = "TRAINER.TWOSTAGE"
MAP = published(TwoStage)
NORMS = KeyMap({name: t for name, t in MAP.maps[0].tensors.items() if t.stacked})
CLIP = reference.random_clip(vision_width=128, embed=48, layers=(3, 4))
NAMES = ["cat", "a very long name", "dog house"]


@pytest.fixture(scope="module")
def golden():
    return Golden("fits/two_stage.npz")


def golden_method(golden):
    method = TwoStageMethod(golden.settings(), clip(), golden.meta["classnames"])
    method.learner.load_state_dict(NORMS.from_published(golden.group("param")), strict=False)
    return method


# The published numbers


def test_both_stages(golden):
    """Of one AdamW, where the published code makes one for each stage."""
    method, images, labels = golden_method(golden), golden["in/images"], golden["in/labels"]
    learner = method.learner
    assert torch.equal(method.prompts.ids_CL, golden["in/token_ids"].long())
    optimizer = torch.optim.AdamW(learner.parameters(), weight_decay=0.01)

    def step(rate, loss_then):
        optimizer.param_groups[0]["lr"] = float(rate)
        optimizer.zero_grad()
        logits = method(images)
        terms = method.losses(logits, labels)
        assert_close(method.backward(terms, lambda loss: loss).double(), loss_then.double(), REST)
        gradients = {n: p.grad for n, p in learner.named_parameters() if p.grad is not None}
        optimizer.step()
        return logits, gradients

    first = [step(*now) for now in zip(golden["traj/lr"], golden["traj/losses"], strict=True)]
    assert_close(first[0][0], golden["out/logits"], LOGITS)
    assert_equal(first[0][1], NORMS.from_published(golden.group("grad")))
    assert_equal(norms_of(learner), NORMS.from_published(golden.group("after6")))
    assert not learner.classifier.any()
    method.start_classifier()
    assert_close(learner.classifier, golden["stage2/param/classifier"], REST)
    method.trains_classifier = True
    rates = zip(golden["stage2/traj/lr64"], golden["stage2/traj/losses64"], strict=True)
    second = [step(*now) for now in rates]
    assert_close(second[0][0], golden["stage2/out/logits"], LOGITS)
    assert_equal(second[0][1], golden.group("stage2/grad"))
    assert_equal(norms_of(learner), NORMS.from_published(golden.group("after6")))
    assert_close(learner.classifier, golden["stage2/after4/classifier"], REST)
    check_evaluation(golden, method)


def norms_of(learner):
    return {n: t for n, t in learner.state_dict().items() if n.startswith(("vision", "text"))}


def assert_equal(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert_close(tensor, theirs[name], REST, name)


@torch.inference_mode()
def check_evaluation(golden, trained):
    """Of two names that were trained, their rows; the adapted text tower for two others."""
    how, images = (trained.settings, trained.clip), golden["in/test_images"]
    for half, names in (("base", "classnames"), ("new", "new_classnames")):
        method = TwoStageMethod(*how, golden.meta[names])
        load_learner(method, trained.learner.state_dict(), "a file", MAP)
        logits = method.classify(images, method.text_features(), seen=half == "base")
        assert_close(logits, golden[f"eval_{half}/logits"], LOGITS)
    assert torch.equal(method.prompts.ids_CL, golden["in/new_token_ids"].long())
    known = method.learner.classifier.any(dim=1)
    assert known.tolist() == [True, True, False, False]


# A run


def test_a_run_is_one_of_each_stage(toy, tmp_path, monkeypatch):
    """On its batches, a fresh AdamW and a cosine of torch's own for each: the same weights."""
    opts = (f"{NODE}.N_ITERS", "5", "OPTIM.MAX_EPOCH", "1")
    trainer = build(command(toy, "TwoStage", tmp_path, opts=opts))
    start, batches = state_of(trainer), []
    monkeypatch.setattr(trainer, "step", lambda *b: (batches.append(b), trainer.plain_step(*b))[1])
    trainer.train()
    assert len(batches) == 10 and trainer.max_epoch == 5
    method = TwoStageMethod(trainer.settings, trainer.clip, trainer.classnames)
    method.learner.load_state_dict(start)
    train_stage(method, method.learner.parameters(), batches[:6], trainer.cfg.OPTIM)
    method.start_classifier()
    method.trains_classifier = True
    train_stage(method, [method.learner.classifier], batches[6:], trainer.cfg.OPTIM)
    for name, tensor in state_of(trainer).items():
        assert_close(tensor.float(), method.learner.state_dict()[name].float(), 1e-7, name)


def train_stage(method, parameters, batches, cfg):
    optimizer = torch.optim.AdamW(parameters, lr=cfg.LR, weight_decay=cfg.WEIGHT_DECAY)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(batches), cfg.LR_MIN)
    for images, labels in batches:
        optimizer.zero_grad()
        method.losses(method(images), labels)["ce"].backward()
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize(("fraction", "at"), [(0.5, 2), (0.75, 2), (0.75, 3), (0.25, 2)])
def test_resumes_at_the_change(fraction, at, toy, tmp_path, monkeypatch, capsys):
    """Of four steps, two an epoch, it is interrupted when `at` are done."""
    opts = (f"{NODE}.N_ITERS_FRAC", str(fraction), "TRAIN.CHECKPOINT_EVERY", "1 step")
    whole, broken = (
        build(command(toy, "TwoStage", tmp_path / part, opts=opts)) for part in ("whole", "parts")
    )
    whole.train()
    assert whole.stage_steps == (4 * fraction, 4 - 4 * fraction)
    step = broken.forward_backward

    def break_off(batch):
        if broken.sched.last_epoch == at:
            raise KeyboardInterrupt
        return step(batch)

    monkeypatch.setattr(broken, "forward_backward", break_off)
    with pytest.raises(KeyboardInterrupt):
        broken.train()
    broken.close_writer()
    assert broken.method.learner.classifier.any() == (at > 4 * fraction)
    resumed = build(command(toy, "TwoStage", tmp_path / "parts", opts=opts))
    resumed.train()
    assert (
        f"/epoch-{(at - 1) // 2}-step-{2 - at % 2}" in capsys.readouterr().out.split("RESUMING")[1]
    )
    assert resumed.sched.last_epoch == 4
    for name, value in state_of(whole).items():
        assert torch.equal(resumed.method.learner.state_dict()[name], value), name


@pytest.mark.parametrize("fraction", [0, 1])
def test_one_stage_alone(fraction, toy, tmp_path):
    opts = (f"{NODE}.N_ITERS_FRAC", str(fraction))
    trainer = build(command(toy, "TwoStage", tmp_path, opts=opts))
    before = norms_of(TwoStageMethod(trainer.settings, trainer.clip, NAMES).learner)
    trainer.train()
    moved = [not torch.equal(t, before[n]) for n, t in norms_of(trainer.method.learner).items()]
    assert all(moved) if fraction else not any(moved)
    assert trainer.method.learner.classifier.any() == (not fraction)
    assert classify(trainer).isfinite().all()


# The method


@pytest.mark.parametrize("modality", ["both", "vision", "text"])
@pytest.mark.parametrize("starts", [(0, 0), (1, 2), (2, 3)])
def test_stage_1_is_that_of_a_plain_clip(modality, starts):
    """Logits and all gradients; it starts from zero-shot CLIP, with the norms that were asked."""
    settings = TwoStageSettings(
        ln_modality=modality, ln_vision_start=starts[0], ln_text_start=starts[1]
    )
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = []
    for kind in (FrozenCLIP, reference.PlainCLIP):
        method = TwoStageMethod(settings, kind(CLIP, "random"), NAMES)
        zero_shot = normalize(method.clip.encode_text(method.prompts))
        assert_close(method.text_features(), zero_shot, REST)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in method.learner.parameters():
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
        logits = method(images)
        method.backward(method.losses(logits, torch.tensor([2, 0])), lambda loss: loss)
        learned = dict(method.learner.named_parameters())
        assert learned.pop("classifier").grad is None
        found.append((logits, {name: p.grad for name, p in learned.items()}))
    (logits, gradients), (plain_logits, plain_gradients) = found
    assert_close(logits, plain_logits, LOGITS)
    assert_equal(gradients, plain_gradients)
    sizes = {"vision": 4 * 128 * (3 - starts[0]), "text": 4 * 64 * (4 - starts[1])}
    count = sum(gradient.numel() for gradient in gradients.values())
    assert count == (sum(sizes.values()) if modality == "both" else sizes[modality])


def trained(names):
    """A method whose norms and classifier are no longer those of CLIP."""
    method = TwoStageMethod(TwoStageSettings(), FrozenCLIP(CLIP, "random"), names)
    torch.manual_seed(2)
    for parameter in method.learner.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return method


def loaded(state, names):
    method = TwoStageMethod(TwoStageSettings(), FrozenCLIP(CLIP, "random"), names)
    load_learner(method, state, "a file", MAP)
    return method


def test_rows_are_found_by_name():
    method = trained(NAMES)
    state, rows = method.learner.state_dict(), normalize(method.learner.classifier)
    other = loaded(state, ["zebra", NAMES[2], "red car", NAMES[0]])
    w, tower = other.text_features(), other.tower_features()
    assert_close(w[[1, 3]], rows[[2, 0]], 1e-7)
    assert torch.equal(w[[0, 2]], tower[[0, 2]])
    state["classifier"] = torch.zeros_like(state["classifier"])  # stage 1
    assert torch.equal(loaded(state, NAMES[::-1]).text_features(), method.tower_features().flip(0))


def test_a_name_of_several_classes():
    """On the list of training each has its row; on another it cannot be told which is meant."""
    names = ["crane", "cat", "crane"]
    method = trained(names)
    state = method.learner.state_dict()
    assert torch.equal(loaded(state, names).learner.classifier, method.learner.classifier)
    known = loaded(state, ["crane", "cat"]).learner.classifier.any(dim=1)
    assert known.tolist() == [False, True]


def test_a_damaged_classifier():
    state = trained(NAMES).learner.state_dict()
    with pytest.raises(ValueError, match=r"has 2 class names, and a classifier of shape \(3, 48\)"):
        loaded({**state, "classnames": encode(NAMES[:2])}, NAMES)


# With the rest


def test_prediction_among_other_classes(runs):
    """Known and new names, more of them than in training."""
    folder, names = runs("TwoStage"), ["green star", "red square", "pink ring", "red circle"]
    own, other = load(folder), load(folder, classes=names)
    assert torch.equal(other.text_features[[3, 1]], own.text_features[[0, 1]])
    tower = other.method.tower_features()
    assert torch.equal(other.text_features[[0, 2]], tower[[0, 2]])
    assert not torch.equal(other.text_features[[3, 1]], tower[[3, 1]])


@pytest.mark.parametrize("modality", ["vision", "text"])
def test_one_tower_goes_round(modality, toy, tmp_path):
    opts = (f"{NODE}.LN_MODALITY", modality, f"{NODE}.LN_TEXT_START", "1")
    trainer = build(command(toy, "TwoStage", tmp_path / "run", opts=opts))
    trainer.train()
    (tmp_path / "run" / "config.yaml").write_text("TRAINER: {NAME: TwoStage}")
    convert(tmp_path / "run", tmp_path / "theirs", to="public")
    convert(tmp_path / "theirs", tmp_path / "l.safetensors")
    convert(tmp_path / "l.safetensors", tmp_path / "back")
    for folder in ("theirs", "back"):
        other = build(command(toy, "TwoStage", tmp_path / "other", opts=opts))
        other.load_model(str(tmp_path / folder))
        assert torch.equal(classify(other), classify(trainer))


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        ((f"{NODE}.PEFT", "lora"), r"PEFT is 'lora'; allowed is ln \(the published lora and bitf"),
        ((f"{NODE}.LN_MODALITY", "txt"), r"LN_MODALITY is 'txt'; .*mean 'text'"),
        ((f"{NODE}.LN_VISION_START", "4"), r"VISION_START is 4; allowed is .* from 0 to 3"),
        ((f"{NODE}.LN_TEXT_START", "3"), r"TEXT_START is 3; allowed is .* from 0 to 2"),
        (("OPTIM.LR_SCHEDULER", "cosine"), "OPTIM.LR_SCHEDULER is cosine and .* cosine by step"),
        (("OPTIM.WARMUP_EPOCH", "1"), "OPTIM.WARMUP_EPOCH 1, but .* no warm-up"),
        (("TRAIN.COMPILE", "True"), "TRAIN.COMPILE is True, but .* set it to False"),
        (("MODEL.BACKBONE.NAME", "open_clip:ViT-B-16-SigLIP"), "TwoStage works between layers"),
    ],
)
def test_what_is_refused_before_data_is_read(opts, message, toy, tmp_path):
    opts = (*opts, "DATASET.ROOT", "nowhere")
    with pytest.raises(ValueError, match=message):
        build(command(toy, "TwoStage", tmp_path, opts=opts))


def test_another_start_than_in_training(toy, tmp_path, runs, capsys):
    flags = ("--eval-only", "--model-dir", str(runs("TwoStage")))
    arguments = command(toy, "TwoStage", tmp_path, *flags, opts=(f"{NODE}.LN_TEXT_START", "1"))
    assert f"{NODE}.LN_TEXT_START is 1, trained with 0" in refused(capsys, arguments)
