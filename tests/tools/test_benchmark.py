"""The benchmark: both sides compute the same, and its table says so."""

import dataclasses

import pytest

from tools.benchmark import __main__ as benchmark
from tools.benchmark import worker

CASE = {"method": "MMRL", "precision": "fp32", "classes": 5, "batch": 3, "steps": 1}


@pytest.fixture
def small(monkeypatch):
    """The worker with a CLIP of a few layers instead of ViT-B/16's size."""
    monkeypatch.setattr(worker, "VIT_B16", (32, 224, 3, 64, 32, 77, 49408, 64, 1, 3))
    of_authors = worker.settings_of
    monkeypatch.setattr(
        worker,
        "settings_of",
        lambda *asked: dataclasses.replace(of_authors(*asked), rep_layers=(2, 3)),
    )


@pytest.mark.parametrize("method", ["MMRL", "MMRLPlus"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_both_sides_agree(method, precision, small):
    case = {**CASE, "method": method, "precision": precision, "device": "cpu"}
    ours, slow = (worker.measure(worker.Case(side=s, **case)) for s in ("ours", "plain"))
    tolerance = benchmark.TOLERANCE[precision]
    assert ours.loss == pytest.approx(slow.loss, rel=tolerance)
    assert ours.gradient == pytest.approx(slow.gradient, rel=tolerance)
    assert min(ours.step, slow.step, ours.images, slow.images) > 0


def test_sides_that_differ_are_refused(monkeypatch):
    losses = {"ours": 1.0, "plain": 1.1}
    monkeypatch.setattr(
        benchmark,
        "run",
        lambda case: {
            **{"step": 1.0, "images": 1.0, "memory": 1, "gradient": 1.0, "floor": 0.5},
            "loss": losses[case["side"]],
        },
    )
    with pytest.raises(RuntimeError, match=r"loss of ours is 1\.0, of plain 1\.1: not the same"):
        benchmark.compare({**CASE, "device": "cpu"}, 1, ["plain", "ours"])


def test_table_and_growth():
    side = {"memory": 2**30, "images": 4.0, "floor": 0.5}
    case = {"method": "MMRL", "precision": "fp32", "classes": 100, "batch": 8}
    both = case | {"plain": {**side, "step": 6.0}, "ours": {**side, "step": 2.0}}
    alone = case | {"classes": 1000, "ours": {**side, "step": 3.0}}
    assert benchmark.row(both)[4:] == [
        *("6", "2", "3.0x", "1", "1", "1.0x", "4", "4", "1.0x", "4.0x", "-")
    ]
    assert "step/floor" in benchmark.table([benchmark.row(both), benchmark.row(alone)])
    line = "MMRL, fp32, batch 8: a step with 1000 classes takes 1.50 times one with 100"
    assert benchmark.growth([both, alone]) == [line]


def test_names_are_seeded_and_as_many_as_asked():
    names = worker.class_names(300)
    assert names == worker.class_names(300) and len(names) == 300
    words = [len(name.split()) for name in names]
    assert {1, 2, 3} <= set(words) and max(words) <= 5
