"""The shipped small CLIP: its file, and what it can do."""

from __future__ import annotations

import argparse
import re

import clip
import numpy as np
import pytest
import torch
from clip.model import CLIP

from tools.small_clip import pretrain, weights
from tools.small_clip.evaluate import accuracy, report
from tools.small_clip.images import augment, draw_pool, preprocess
from tools.small_clip.templates import BENCHMARK_TEMPLATES, random_template, vocabulary
from tools.toy.dataset import BASE, CLASSES, NEW, SEEN, SHIFT
from tools.toy.drawing import all_class_names, draw_class, split_name


@pytest.fixture(scope="module")
def model() -> CLIP:
    return weights.load()


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    with np.load(weights.WEIGHTS, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


# The file


def test_file_is_small_and_half_precision(arrays):
    assert weights.WEIGHTS.stat().st_size <= 4 * 2**20
    integers = {"token_embedding.ids", "vocab_size"}
    for name, value in arrays.items():
        assert value.dtype == (np.int32 if name in integers else np.float16), name
        assert np.isfinite(value).all(), name


def test_file_loads_strictly_into_openai_s_class(arrays):
    state = {name: torch.from_numpy(value).float() for name, value in arrays.items()}
    ids, rows = arrays["token_embedding.ids"], state.pop("token_embedding.rows")
    embedding = torch.zeros(int(state.pop("vocab_size")), rows.shape[1])
    embedding[state.pop("token_embedding.ids").long()] = rows
    model = CLIP(128, 32, 4, 128, 4, 77, 49408, 128, 2, 3)
    model.load_state_dict(state | {"token_embedding.weight": embedding}, strict=True)
    assert (np.diff(ids) > 0).all() and {49406, 49407} <= set(ids.tolist())


def test_loaded_values_are_exact_in_half_precision(model):
    for name, value in model.state_dict().items():
        assert torch.equal(value, value.half().float()), name


def test_scale_agrees_with_the_constant_100(model):
    assert 99 < model.logit_scale.exp().item() <= 100


def test_log_is_of_the_run_that_made_the_file():
    log = weights.WEIGHTS.with_suffix(".log").read_text()
    assert f"saved {weights.WEIGHTS.stat().st_size:,} bytes" in log
    assert re.search(r"'seed': \d+", log) and re.search(r"^torch \d", log, re.MULTILINE)


@pytest.mark.slow
def test_accuracies_of_the_log_are_those_of_the_file(model):
    log = weights.WEIGHTS.with_suffix(".log").read_text().splitlines()
    lines = list(report(model, strengths=(0.0,)))
    assert lines == log[-len(lines) :]


def test_save_then_load_is_the_model_in_half_precision(tmp_path):
    ids = vocabulary()
    torch.manual_seed(0)
    model = weights.build(len(ids))
    weights.save(model.state_dict(), ids, tmp_path / "w.npz")
    loaded = weights.load(tmp_path / "w.npz").state_dict()
    for name, value in model.state_dict().items():
        kept = loaded[name][ids] if name == "token_embedding.weight" else loaded[name]
        assert torch.equal(kept, value.half().float()), name
    assert [path.name for path in tmp_path.iterdir()] == ["w.npz"]


def test_missing_file_says_how_to_make_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tools\.small_clip\.pretrain"):
        weights.load(tmp_path / "none.npz")


# What it can do


def test_recognises_combinations_that_it_never_saw(model):
    score = accuracy(model, CLASSES, count=6, seed=77)
    assert score["class"] > 85


def test_recognises_seen_combinations(model):
    assert accuracy(model, SEEN, count=3, seed=77)["class"] > 85


@pytest.mark.parametrize("half", [BASE, NEW])
def test_shifted_style_is_harder_but_far_above_chance(model, half):
    score = accuracy(model, half, count=10, seed=77, strength=SHIFT)
    colors, shapes = (len({split_name(name)[k] for name in half}) for k in (0, 1))
    assert 40 < score["class"] < 95
    assert score["color"] > 2 * 100 / colors and score["shape"] > 2 * 100 / shapes


@pytest.mark.parametrize("template", BENCHMARK_TEMPLATES)
def test_reads_every_benchmark_sentence(model, template):
    tokens = clip.tokenize([template.format(name) for name in BASE])
    assert accuracy(model, BASE, count=3, seed=78, tokens=tokens)["class"] > 75


# Its training


def test_vocabulary_covers_every_sentence():
    ids = vocabulary()
    rng = np.random.default_rng(0)
    names = all_class_names()
    sentences = [random_template(rng).format(names[k % 100]) for k in range(1000)]
    sentences += [template.format(name) for template in BENCHMARK_TEMPLATES for name in names]
    places = pretrain.compact(sentences, ids)
    tokens = clip.tokenize(sentences)
    assert torch.equal(torch.from_numpy(ids)[places], tokens[:, : places.shape[1]])
    assert torch.equal(places.argmax(dim=1), tokens.argmax(dim=1))


def test_pool_is_the_same_for_any_number_of_processes():
    names = ("red star", "blue ring")
    one, two = (draw_pool(names, 2, 5, workers) for workers in (1, 2))
    assert torch.equal(one, two) and one.shape == (2, 2, 3, 64, 64)


def test_augmentation_is_seeded_and_keeps_the_model_s_input_size():
    pictures = torch.from_numpy(draw_class("red star", 3, 0)).permute(0, 3, 1, 2)
    first, again = (augment(pictures, torch.Generator().manual_seed(1)) for _ in range(2))
    assert first.shape == preprocess(draw_class("red star", 3, 0)).shape == (3, 3, 32, 32)
    assert torch.equal(first, again)


def test_training_is_seeded_and_moves_every_parameter_but_the_scale(tmp_path):
    pool = draw_pool(SEEN, 1, 0, workers=1)
    ids = vocabulary()
    args = argparse.Namespace(steps=2, lr=1e-3, weight_decay=0.1, per_class=1, seed=3)
    states = []
    for _ in range(2):
        torch.manual_seed(0)
        model = weights.build(len(ids))
        start = {name: value.clone() for name, value in model.state_dict().items()}
        pretrain.train(model, pool, ids, args, pretrain.Log(tmp_path / "log"))
        states.append(model.state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], msg=name)
        assert not torch.equal(value, start[name]), name


def test_loss_counts_every_picture_of_a_class_as_right():
    """With features that tell classes apart perfectly, the loss is what several positives cost."""
    torch.manual_seed(0)
    ids = vocabulary()
    model = weights.build(len(ids))
    labels = torch.tensor([0, 0, 1, 1])
    features = torch.eye(2, 128)
    model.encode_image = lambda images: features[labels]
    model.encode_text = lambda tokens: features
    with torch.no_grad():
        model.logit_scale.fill_(pretrain.LAST_LOG_SCALE)
    loss = pretrain.contrastive_loss(model, labels, labels, labels)
    assert loss.item() == pytest.approx(np.log(2) / 2, abs=1e-4)


def test_schedules():
    steps = 1000
    scale = [np.exp(pretrain.log_scale(step, steps)) for step in range(steps)]
    assert scale[0] == pytest.approx(20) and 99 < scale[-1] <= 100
    rates = [pretrain.rate(step, steps) for step in range(steps)]
    assert max(rates) == 1 and rates[0] < 0.01 and rates[-1] < 0.01
