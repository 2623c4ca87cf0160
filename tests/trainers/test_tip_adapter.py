"""Tip-Adapter and Tip-Adapter-F: published numbers, the search, caches of other classes."""

from pathlib import Path

import pytest
import torch

from dassl.engine.hooks import Hook
from dassl.optim import build_lr_scheduler, build_optimizer
from run.config import default_config
from tests.helpers.golden_files import LOGITS, REST, Golden, assert_close, clip
from tests.helpers.toy_run import build, classify, command, config, state_of, variant
from trainers import tip_adapter
from trainers.tip_adapter import TipAdapterFMethod, TipAdapterSettings
from training.checkpoints import load_learner
from training.feature_fit import Features, image_features
from training.method import normalize
from training.published import Published
from training.templates import SELECTED_TEMPLATES

FILE = Path("run/cache/model.pth.tar-1")
NODE = "TRAINER.TIPADAPTER"


@pytest.fixture
def golden() -> Golden:
    default_config()  # registers the trainers
    return Golden("fits/tip_pets.npz")


def method_of(golden: Golden, names=(), **settings) -> TipAdapterFMethod:
    own = golden.settings() if not settings else TipAdapterSettings(**settings)
    names = list(names) or golden.meta["classnames"]
    return TipAdapterFMethod(own, clip(), names, golden.meta["templates"][0])


def features(images, labels) -> Features:
    return Features(clip().encode_image(images), labels)


def filled(golden: Golden, **settings) -> TipAdapterFMethod:
    """The method with the cache of the golden views."""
    method = method_of(golden, **settings)
    method.remember(
        [features(view, golden["in/train_labels"]) for view in golden["in/train_views"]]
    )
    return method


def answers(method, images) -> torch.Tensor:
    with torch.no_grad():
        return method.classify(images, method.text_features(), seen=True)


def test_the_fit_of_the_published_code(golden):
    method, images = filled(golden), golden["in/images"]
    assert torch.equal(method.prompts.ids_CL, golden["in/token_ids"].long())
    assert_close(method.w, golden["out/text_features"], REST)
    assert_close(method.learner.keys.mT, golden["buffer/cache_keys"], REST)
    values = torch.nn.functional.one_hot(method.learner.labels)
    assert torch.equal(values.float(), golden["buffer/cache_values"])
    assert_close(answers(method, images), golden["out/logits"], LOGITS)
    val = features(golden["in/val_images"], golden["in/val_labels"])
    assert_close(normalize(val.f), golden["out/val_features"], REST)
    method.search(val)
    found = torch.stack([method.learner.beta, method.learner.alpha])
    assert_close(found, golden["out/searched_beta_alpha64"].float(), REST)
    assert_close(answers(method, images), golden["out/logits_searched"], LOGITS)


def test_training_of_the_published_code(golden):
    """From the cache, with the optimizer and the schedule that the YAML file says."""
    method, (view, labels) = (
        filled(golden),
        (golden["in/train_views"][0], golden["in/train_labels"]),
    )
    keys = method.learner.keys
    assert_close(keys, golden["param/adapter.weight"], REST)
    keys.data.copy_(golden["param/adapter.weight"])
    method.learner.alpha.fill_(9)  # as if found: training is at the initial values
    file = str(variant("TipAdapterF", "vit_b16"))
    cfg, _ = config("--trainer", "TipAdapterF", "--config-file", file)
    optimizer = build_optimizer(method.learner, cfg.OPTIM)
    schedule = build_lr_scheduler(optimizer, cfg.OPTIM, steps=6)
    assert_close(method(view), golden["out/train_logits"], LOGITS)
    for step, (loss, rate) in enumerate(zip(golden["traj/losses"], golden["traj/lr"], strict=True)):
        optimizer.zero_grad()
        terms = method.losses(method(view), labels)
        assert_close(method.backward(terms, lambda each: each), loss, REST)
        if not step:
            assert_close(keys.grad, golden["grad/adapter.weight"], REST)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(float(rate))
        optimizer.step()
        schedule.step()
    assert_close(keys, golden["after6/adapter.weight"], REST)
    method.learner.alpha.fill_(golden.options["INIT_ALPHA"])
    assert_close(answers(method, golden["in/images"]), golden["eval6/logits"], LOGITS)


# The search


def published_search(method, val) -> tuple[float, float, int]:
    """Pair after pair: a later one wins only if it is strictly better."""
    affinity = normalize(val.f) @ method.learner.keys.mT
    values = torch.eye(len(method.classnames))[method.learner.labels]
    (end_beta, end_alpha), (betas, alphas) = (
        method.settings.search_scale,
        method.settings.search_step,
    )
    best = (0.0, 0.0, 0)
    for i in range(betas):
        beta = i * (end_beta - 0.1) / betas + 0.1
        for j in range(alphas):
            alpha = j * (end_alpha - 0.1) / alphas + 0.1
            votes = (-(beta - beta * affinity)).exp() @ values
            logits = 100.0 * normalize(val.f) @ method.w.mT + votes * alpha
            right = int((logits.argmax(dim=1) == val.labels).sum())
            if right > best[2]:
                best = (beta, alpha, right)
    return best


@pytest.mark.parametrize("at_once", [2**24, 50, 1])
def test_the_first_of_the_best_pairs(at_once, golden, monkeypatch, capsys):
    """Whatever is computed at once."""
    monkeypatch.setattr(tip_adapter, "AT_ONCE", at_once)
    method = filled(golden, search_scale=(9.0, 30.0), search_step=(6, 7))
    generator = torch.Generator().manual_seed(1)
    f = golden["out/val_features"] + 0.1 * torch.randn(12, 64, generator=generator)
    val = Features(3 * f, golden["in/val_labels"])
    with torch.no_grad():
        beta, alpha, right = published_search(method, val)
    assert beta > 0.1 and alpha > 0.1  # not the first of all
    method.search(val)
    assert (method.learner.beta, method.learner.alpha) == (
        pytest.approx(beta),
        pytest.approx(alpha),
    )
    assert f"{right} of 12 are right with beta" in capsys.readouterr().out


def test_no_pair_is_right(golden):
    """The cache does not count then."""
    method = filled(golden, search_step=(3, 2))
    val = features(golden["in/val_images"], torch.full((12,), -5))
    method.search(val)
    assert (method.learner.beta, method.learner.alpha) == (0, 0)


def test_without_validation_images_the_initial_values_stay(golden, capsys):
    filled(golden, search_hp=False).search(None)
    assert capsys.readouterr().out == ""
    method = filled(golden, init_alpha=2.5, init_beta=3.0)
    method.search(None)
    assert (method.learner.beta, method.learner.alpha) == (3.0, 2.5)
    said = "no validation images to search beta and alpha on: beta 3 and alpha 2.5 stay"
    assert said in capsys.readouterr().out


def test_the_best_epoch_is_chosen_at_its_own_pair(toy, tmp_path):
    opts = ("TEST.FINAL_MODEL", "best_val")
    trainer = build(command(toy, "TipAdapterF", tmp_path, opts=opts))
    searched = []
    search = trainer.method.search
    trainer.method.search = lambda val: (searched.append(len(val.labels)), search(val))
    trainer.train()
    assert searched == [6, 6]
    best = torch.load(tmp_path / "cache/model-best.pth.tar", weights_only=True)["state_dict"]
    assert best["alpha"] != trainer.settings.init_alpha


def test_every_checkpoint_has_the_pair_of_its_own_keys(toy, tmp_path):
    opts = ("TRAIN.CHECKPOINT_FREQ", "2", "OPTIM.MAX_EPOCH", "5")
    trainer = build(command(toy, "TipAdapterF", tmp_path, opts=opts))
    searched, search = [], trainer.method.search
    trainer.method.search = lambda val: (searched.append(trainer.epoch + 1), search(val))
    trainer.train()
    assert searched == [2, 4, 5]
    middle = torch.load(tmp_path / "cache/model.pth.tar-2", weights_only=True)["state_dict"]
    assert middle["alpha"] != trainer.settings.init_alpha


# Text


@pytest.mark.parametrize(
    ("dataset", "seven"),
    [("ImageNet", True), ("ImageNetA", True), ("OxfordPets", False), ("", False)],
)
def test_sentences(dataset, seven, golden):
    """ImageNet and its variants have seven of their own; with DATASET.TEMPLATE there is no name."""
    method = method_of(golden, dataset=dataset)
    assert method.settings.needs_template != seven
    templates = SELECTED_TEMPLATES if seven else golden.meta["templates"]
    prompts = [clip().prompts(method.classnames, template) for template in templates]
    w = normalize(sum(normalize(clip().encode_text(each)) for each in prompts))
    assert_close(method.text_features(), w, REST)


# Checkpoints


def test_other_classes_and_sizes(golden):
    """A subset in another order: logits are those columns; the keys of the rest are gone."""
    method, images = filled(golden), golden["in/images"]
    method.learner.alpha.fill_(7)
    order = [3, 0, 4]
    names = [method.classnames[number] for number in order]
    other = method_of(golden, names)
    load_learner(other, method.learner.state_dict(), FILE, Published())
    assert len(other.learner.keys) == len(other.learner.labels) == 6
    assert_close(answers(other, images), answers(method, images)[:, order], LOGITS)


def test_tensors_of_the_published_code_in_a_checkpoint(golden, capsys):
    """They have no class names: the run's are taken."""
    keys, values = golden["buffer/cache_keys"].mT, golden["buffer/cache_values"]
    state = {"keys": keys, "labels": values.argmax(dim=1)}
    state |= {"alpha": torch.tensor(1.17), "beta": torch.tensor(1.0)}
    load_learner(method := method_of(golden), state, FILE, Published())
    assert "has no class names" in capsys.readouterr().out
    assert_close(answers(method, golden["in/images"]), golden["out/logits"], LOGITS)


def test_an_empty_cache_is_zero_shot(golden):
    method = method_of(golden)
    logits = 100 * golden["out/image_features"] @ golden["out/text_features"].mT
    assert_close(answers(method, golden["in/images"]), logits, LOGITS)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("labels", torch.full((10,), 5), "is damaged: it has labels of more classes than names"),
        ("labels", torch.zeros(9), r"keys has shape \(10, 64\), the config makes \(0, 64\)"),
        ("keys", torch.zeros(10, 32), r"keys has shape \(10, 32\), the config makes \(0, 64\)"),
        ("keys", torch.full((10, 64), torch.nan), "infinite or NaN"),
        ("keys", None, "keys is missing"),
    ],
)
def test_a_cache_that_does_not_fit(key, value, message, golden):
    state = filled(golden).learner.state_dict()
    state = {k: v for k, v in (state | {key: value}).items() if v is not None}
    with pytest.raises(ValueError, match=message):
        load_learner(method_of(golden), state, FILE, Published())


def test_more_shots_than_the_run(toy, tmp_path):
    trainer = build(command(toy, "TipAdapter", tmp_path / "two"))
    trainer.train()
    one = build(command(toy, "TipAdapter", tmp_path / "one", opts=("DATASET.NUM_SHOTS", "1")))
    one.load_model(str(tmp_path / "two"))
    assert len(one.method.learner.keys) == 6
    assert torch.equal(classify(one), classify(trainer))


@pytest.mark.parametrize(("name", "file"), [("TipAdapter", "keys"), ("TipAdapterF", "best_F")])
def test_files_of_the_published_code(name, file, toy, tmp_path, capsys):
    """Beta and alpha are not in them: they are searched."""
    trainer = build(command(toy, name, tmp_path / "ours"))
    trainer.train()
    keys, labels = trainer.method.learner.keys, trainer.method.learner.labels
    public = tmp_path / "public"
    public.mkdir()
    torch.save(keys.detach().mT if file == "keys" else keys, public / f"{file}_2shots.pt")
    torch.save(torch.nn.functional.one_hot(labels).half(), public / "values_2shots.pt")
    other = build(command(toy, name, tmp_path / "other"))
    other.load_model(str(public))
    assert torch.equal(classify(other), classify(trainer))
    assert "has no class names" in capsys.readouterr().out
    torch.save(torch.eye(6), public / "values_2shots.pt")
    with pytest.raises(ValueError, match=r"shapes .* and \(6, 6\), and this run has 3 classes"):
        other.load_model(str(public))
    torch.save({"values": torch.eye(6)}, public / "values_2shots.pt")
    with pytest.raises(ValueError, match="no plain tensor"):
        other.load_model(str(public))
    (public / "values_2shots.pt").write_bytes(b"PK no archive")
    with pytest.raises(ValueError, match=r"values_2shots.pt holds no tensor \(File is not a zip"):
        other.load_model(str(public))
    (public / f"{file}_2shots.pt").unlink()
    with pytest.raises(FileNotFoundError):
        other.load_model(str(public))


# Runs


def test_views_belong_to_the_seed(toy, tmp_path):
    one, two = (
        build(command(toy, "TipAdapter", tmp_path, opts=("SEED", seed))) for seed in ("1", "2")
    )
    items = one.dm.dataset.train_x
    first = image_features(one, items, 0)
    assert first.labels.tolist() == [item.label for item in items]
    torch.rand(1)  # what is drawn in between does not matter
    assert torch.equal(first.f, image_features(one, items, 0).f)
    others = (
        image_features(one, items, 1),
        image_features(two, items, 0),
        image_features(one, items),
    )
    assert not any(torch.allclose(first.f, each.f) for each in others)


class Interrupt(Hook):
    def after_batch(self, trainer, summary) -> None:
        if (trainer.epoch, trainer.batch_idx) == (1, 1):
            raise KeyboardInterrupt


def test_a_run_that_goes_on_has_its_cache(toy, tmp_path, capsys):
    opts = ("TRAIN.CHECKPOINT_EVERY", "1 step", "OPTIM.MAX_EPOCH", "3")
    whole, part, rest = (
        build(command(toy, "TipAdapterF", tmp_path / run, opts=opts)) for run in ("a", "b", "b")
    )
    whole.train()
    part.register_hook(Interrupt())
    with pytest.raises(KeyboardInterrupt):
        part.train()
    assert "Cache of 6 training images, 10 views of each" in capsys.readouterr().out
    rest.train()
    said = capsys.readouterr().out
    assert "RESUMING after epoch 1 and 1 batches" in said and "Cache of" not in said
    assert all(torch.equal(state_of(whole)[k], v) for k, v in state_of(rest).items())


@pytest.mark.parametrize(
    ("dataset", "alpha", "scale", "epochs"),
    [
        ("EuroSAT", 2.0, [12.0, 10.0], 100),
        ("OxfordFlowers", 10.0, [50.0, 50.0], 20),
        ("ImageNet", 1.17, [7.0, 3.0], 20),
    ],
)
@pytest.mark.parametrize("task", ["B2N", "FS", "CD"])
def test_what_differs_by_dataset(dataset, alpha, scale, epochs, task):
    for name in ("TipAdapter", "TipAdapterF"):
        opts = (
            "--config-file",
            str(variant(name, "vit_b16")),
            "TASK",
            task,
            "DATASET.NAME",
            dataset,
        )
        cfg, _ = config("--trainer", name, *opts)
        node = cfg.TRAINER.TIPADAPTER
        assert (node.INIT_ALPHA, list(node.SEARCH_SCALE)) == (alpha, scale)
    assert cfg.OPTIM.MAX_EPOCH == epochs


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "SEARCH_SCALE",
            "[7.0, 0.05]",
            r"SEARCH_SCALE is .*; allowed is a list of 2 such values: ",
        ),
        ("SEARCH_STEP", "[200]", r"SEARCH_STEP is \(200,\); allowed is a list of 2 such values"),
        ("AUGMENT_EPOCH", "0", r"AUGMENT_EPOCH is 0; allowed is a whole number from 1"),
        ("INIT_BETA", "-1", r"INIT_BETA is -1.0; allowed is a number from 0"),
    ],
)
def test_wrong_settings(key, value, message, toy, tmp_path):
    with pytest.raises(ValueError, match=message):
        build(command(toy, "TipAdapter", tmp_path, opts=(f"{NODE}.{key}", value)))
