"""What the demo shows: learning raises base accuracy and keeps that on new classes."""

import json
from statistics import fmean as mean

import pytest

from tools import demo

SEEDS = (1, 2, 3)


@pytest.mark.slow
def test_learning_raises_base_and_keeps_new(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "DATA", tmp_path / "data")
    monkeypatch.setattr(demo, "OUTPUT", tmp_path / "output")
    assert demo.main([]) == 0

    def accuracy(method, part):
        """Mean over all seeds, in percent."""
        place = tmp_path / "output" / "base2new" / part / "colored_shapes" / "shots_16" / method
        records = [place / "small" / f"seed{seed}" / "results.json" for seed in SEEDS]
        return mean([json.loads(record.read_text())["accuracy"] for record in records])

    for method in ("MMRL", "MMRLPlus"):
        base, new = (
            accuracy(method, part) - accuracy("ZeroshotCLIP", part)
            for part in ("train_base", "test_new")
        )
        assert base >= 15, method
        assert new >= -4, method
