"""Signals that end a run, when it saves in between, and what then continues."""

import multiprocessing
import os
import signal

import pytest
import torch

from dassl.engine import build_trainer
from dassl.engine.checkpointing import Interval, find_snapshots
from dassl.utils.stopping import Stopped


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


def run_under(break_off, cfg):
    trainer = build_trainer(cfg)
    with pytest.MonkeyPatch.context() as patch:
        break_off(trainer, patch)
        trainer.train()


def signal_in(name, call, number):
    """Send a signal to this process in a call of a method."""

    def break_off(trainer, patch):
        original, calls = getattr(trainer, name), []

        def signalling(*args, **kwargs):
            calls.append(1)
            if len(calls) == call:
                os.kill(os.getpid(), number)
            return original(*args, **kwargs)

        patch.setattr(trainer, name, signalling)

    return break_off


@pytest.fixture(autouse=True)
def in_a_terminal():
    """No signal is ignored, as SIGHUP is under nohup and Ctrl-C in the background of a shell."""
    before = {
        signal.SIGHUP: signal.signal(signal.SIGHUP, signal.SIG_DFL),
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


STOPS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGINT)


@pytest.mark.parametrize(
    ("number", "name", "call", "saved"),
    [
        (signal.SIGTERM, "forward_backward", 2, (0, 2)),  # the step is finished
        (signal.SIGUSR2, "forward_backward", 4, (0, 4)),
        (signal.SIGHUP, "forward_backward", 3, (0, 3)),
        (signal.SIGINT, "forward_backward", 5, (1, 1)),
        (signal.SIGTERM, "before_epoch", 2, (1, 1)),
        (signal.SIGTERM, "after_epoch", 1, (0, 4)),
        (signal.SIGTERM, "test", 1, (0, 4)),  # a validation is not waited for
        (signal.SIGINT, "save_model", 1, (0, 4)),
        (signal.SIGUSR1, "test", 3, None),  # nor the last test
    ],
)
def test_stopped(make_cfg, tmp_path, capsys, number, name, call, saved):
    options = ("OPTIM.MAX_EPOCH", 2, "TEST.FINAL_MODEL", "best_val")
    whole = build_trainer(make_cfg(*options, "OUTPUT_DIR", str(tmp_path / "whole")))
    whole.train()
    handlers = [signal.getsignal(n) for n in STOPS]
    kind = KeyboardInterrupt if number == signal.SIGINT else Stopped
    with pytest.raises(kind, match="the same command continues") as stopped:
        run_under(signal_in(name, call, number), make_cfg(*options))
    assert handlers == [signal.getsignal(n) for n in STOPS]
    if kind is Stopped:
        assert stopped.value.code == 75
        assert capsys.readouterr().err.count("stopped by SIG") == 1
    if saved:
        assert [place for place, _ in find_snapshots(tmp_path / "output")] == [saved]
    resumed = build_trainer(make_cfg(*options))
    resumed.train()
    assert torch.equal(weights(resumed), weights(whole))
    assert resumed.best_result == whole.best_result


def test_a_signal_that_is_ignored_stays_so(make_cfg):
    """As the hangup under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    run_under(signal_in("forward_backward", 2, signal.SIGHUP), make_cfg("OPTIM.MAX_EPOCH", 1))
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_a_second_ctrl_c_does_not_wait(make_cfg):
    def break_off(trainer, patch):
        def twice(batch):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            raise AssertionError("it went on")

        patch.setattr(trainer, "forward_backward", twice)

    with pytest.raises(KeyboardInterrupt):
        run_under(break_off, make_cfg())


def test_several_signals_are_one(make_cfg):
    def break_off(trainer, patch):
        forward = trainer.forward_backward

        def signalling(batch):
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGTERM)
            return forward(batch)

        patch.setattr(trainer, "forward_backward", signalling)

    with pytest.raises(Stopped, match="epoch 1, batch 1 of 4"):
        run_under(break_off, make_cfg())


def test_workers_leave_signals_to_the_main_process(make_cfg):
    """They get them too when a whole group of processes does, as with Ctrl-C."""
    others = set(multiprocessing.active_children())  # of tests before it
    trainer = build_trainer(make_cfg("DATALOADER.NUM_WORKERS", 1, "OPTIM.MAX_EPOCH", 2))
    forward, sent = trainer.forward_backward, []

    def signalling(batch):
        for worker in set(multiprocessing.active_children()) - others:
            for number in STOPS:
                os.kill(worker.pid, number)
                sent.append(number)
        return forward(batch)

    trainer.forward_backward = signalling
    trainer.train()
    assert len(sent) == 2 * 4 * len(STOPS)


@pytest.mark.parametrize(
    ("text", "never", "after_steps"),
    [
        *(("10m", False, None), ("0", True, None), ("", True, None), ("2 steps", False, 2)),
        *(("1.5 h", False, None), ("90S", False, None), ("0 steps", True, None)),
    ],
)
def test_intervals(text, never, after_steps, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    interval = Interval(text)
    assert interval.never == never
    if after_steps:
        assert [interval.due() for _ in range(after_steps)] == [False] * (after_steps - 1) + [True]
    else:
        assert not any(interval.due() for _ in range(1000))
    now[0] += {"10m": 600, "1.5 h": 5400, "90S": 90}.get(text, 1e9) - 0.5
    assert interval.due(0) == bool(after_steps)
    now[0] += 0.5
    assert interval.due(0) == (not never)


@pytest.mark.parametrize("text", ["often", "1.5 steps", "-3m", "10 d", "m"])
def test_an_interval_that_is_none(make_cfg, text):
    with pytest.raises(ValueError, match=r"CHECKPOINT_EVERY is .*allowed are a time such as 10m"):
        build_trainer(make_cfg("TRAIN.CHECKPOINT_EVERY", text))
