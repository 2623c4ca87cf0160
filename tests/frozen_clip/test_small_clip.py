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
from tools.small_clip.images import draw_pool
from tools.small_clip.templates import BENCHMARK_TEMPLATES, vocabulary
from tools.toy.dataset import BASE, CLASSES, NEW, SEEN, SHIFT
from tools.toy.drawing import split_name


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


# What it can do


def test_recognises_combinations_that_it_never_saw(model):
    score = accuracy(model, CLASSES, count=6, seed=77)
    assert score["class"] > 85


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
