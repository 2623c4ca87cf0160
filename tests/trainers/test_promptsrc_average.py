"""PromptSRC's average over epochs: its weights, that it is what is saved, and resumed."""

import pytest
import torch

from tests.helpers.toy_run import build, command, state_of
from trainers.promptsrc import gaussian_weights

AVERAGED = ("OPTIM.MAX_EPOCH", "3", "TRAIN.CHECKPOINT_FREQ", "1", "TRAINER.PROMPTSRC.GPA_MEAN", "2")


def test_gaussian_weights():
    weights = torch.tensor(gaussian_weights(20, 15, 1), dtype=torch.float64)
    density = torch.exp(-0.5 * (torch.arange(1, 21).double() - 15) ** 2)
    assert torch.allclose(weights, density / density.sum())
    assert gaussian_weights(2, 500, 1)[1] == 1  # far away: no division by zero


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
