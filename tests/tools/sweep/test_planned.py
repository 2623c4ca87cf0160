"""Finished is only the run that is asked for: what a sweep compares before it starts anything."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from common.safe_yaml import read_yaml
from frozen_clip import file_hash
from run.config import own_part
from run.flat import flatten
from tests.helpers.sweep_runs import RECORD
from tools.results import find_runs, methods_of
from tools.sweep import cli, plan, planned
from tools.sweep.protocols import Request, RunPath, expand
from tools.sweep.store import RunStore

FLAGS = ("base2new", "--methods", "CoOp", "--datasets", "dtd", "--seeds", "1", "--cfg", "small")
TRAIN, TEST = (f"base2new/{h}/dtd/shots_16/CoOp/small/seed1" for h in ("train_base", "test_new"))


@pytest.fixture
def ask(tmp_path):
    """Plans the runs of a request; `ask.refusal` says why they are refused."""

    class Ask:
        output = tmp_path / "out"

        def __call__(self, *opts, **changes):
            request = {"methods": ["CoOp"], "datasets": ["dtd"], "seeds": [1], "cfg": "small"}
            request |= {"output": self.output, "data": tmp_path / "data", "backbone": "small"}
            return expand(Request("base2new", options=opts, **(request | changes)))

        def refusal(self, *opts, data_here=False, **changes):
            runs = self(*opts, **changes)
            return planned.refusal([(run.arguments, run.training, data_here) for run in runs])

        def finish(self, *opts, known=(), forget=(), **changes):
            """Leave what finished runs do, more that is `known` of them, less what to `forget`."""
            for run in self(*opts, **changes):
                own, training = (
                    words and planned._plan(words, {}) for words in (run.arguments, run.training)
                )
                said = {"settings": own.settings, "eval_only": own.args.eval_only}
                said["trained"] = {"settings": training.settings} if training else None
                own.directory.mkdir(parents=True, exist_ok=True)
                said = {k: v for k, v in (said | dict(known)).items() if k not in forget}
                (own.directory / "results.json").write_text(json.dumps(RECORD | said))

    return Ask()


def test_runs_that_are_there_with_other_settings(ask):
    assert ask.refusal() is None
    ask.finish("OPTIM.LR", "0.001")
    assert ask.refusal("OPTIM.LR", "0.001") is None
    assert ask.refusal("OPTIM.LR", "1e-3", "TRAIN.PRINT_FREQ", "7") is None  # the same results
    refusal = ask.refusal("OPTIM.LR", "0.5")
    assert refusal.startswith(
        f"{ask.output / TRAIN} already holds a run with another config: OPTIM.LR: 0.001 there, "
        "0.5 now. --tag NAME (TAG in the scripts) puts"
    )
    assert refusal.endswith("(1 more of these runs are refused likewise)")
    assert ask.refusal("OPTIM.LR", "0.5", tag="lr0.5") is None  # as the message says
    shutil.rmtree(ask.output / TRAIN)
    shutil.rmtree(ask.output / TEST)
    assert ask.refusal("OPTIM.LR", "0.5") is None


@pytest.mark.parametrize(
    ("opts", "changes", "expected"),
    [
        (("TRAINER.COOP.NONSENSE", "3"), {}, "unknown config key 'TRAINER.COOP.NONSENSE'"),
        (("OPTIM.LR",), {}, "'OPTIM.LR' stands alone"),
        (("OPTIM.LR", "fast"), {}, "OPTIM.LR cannot be 'fast'"),
        (("OPTIM.LR", "-1"), {}, "OPTIM.LR is -1"),
        (
            (),
            {"backbone": "/no/such.pt"},
            "backbone '/no/such.pt' is neither a file or directory nor a name",
        ),
        ((), {"plugins": ["nowhere.py"]}, "nowhere.py: there is no such file"),
        (("DATASET.NAME", "DTDD"), {}, "DTDD"),
    ],
)
def test_what_is_wrong_is_refused_before_it_is_finished(opts, changes, expected, ask):
    ask.finish()
    assert expected in ask.refusal(*opts, **changes)


def test_another_data_set_under_the_same_name(ask, tmp_path, monkeypatch):
    ask.finish()
    monkeypatch.chdir(tmp_path)
    Path("dtd.yaml").write_text("DATASET: {NAME: ImageFolder, PATH: own}")
    refusal = ask.refusal(datasets=["./dtd.yaml"])
    assert "DATASET.NAME: DescribableTextures there, ImageFolder now" in refusal
    assert "DATASET.PATH: '' there, own now" in refusal


def test_a_test_is_of_the_training_that_is_asked_for(ask):
    ask.finish("DATASET.TEMPLATE", "a {}.", parts=["train"])
    refusal = ask.refusal("DATASET.TEMPLATE", "the {}.", parts=["test"])
    assert refusal.startswith(f"the weights to test are others: {ask.output / TRAIN} already holds")
    assert "DATASET.TEMPLATE: a {}. there, the {}. now" in refusal
    assert ask.refusal("DATASET.TEMPLATE", "a {}.", parts=["test"]) is None


def test_a_test_of_weights_that_were_trained_otherwise_since(ask):
    ask.finish("OPTIM.MAX_EPOCH", "3")
    own = json.loads((ask.output / TEST / "results.json").read_text())
    own["trained"]["settings"]["OPTIM.LR"] = 0.7
    (ask.output / TEST / "results.json").write_text(json.dumps(own))
    refusal = ask.refusal("OPTIM.MAX_EPOCH", "3")
    assert "tests weights that were trained with OPTIM.LR: 0.7 there" in refusal


def test_older_runs_are_compared_by_their_config(ask):
    ask.finish(forget=("settings", "trained"), parts=["train"])
    assert ask.refusal("OPTIM.LR", "0.5", parts=["train"]) is None  # nothing is known
    (run,) = ask(parts=["train"])
    cfg = planned._plan(run.arguments, {}).cfg
    (ask.output / TRAIN / "config.yaml").write_text(own_part(cfg).dump())
    assert ask.refusal(parts=["train"]) is None
    assert "OPTIM.LR: " in ask.refusal("OPTIM.LR", "0.5", parts=["train"])


def test_an_unfinished_run_of_other_settings(ask):
    ask.finish(parts=["train"])
    (ask.output / TRAIN / "results.json").rename(ask.output / TRAIN / "identity.json")
    assert ask.refusal("OPTIM.LR", "0.5", parts=["train"]) is None  # nothing was learned yet
    (ask.output / TRAIN / "in_progress").mkdir()
    (ask.output / TRAIN / "in_progress" / "a.pth.tar").touch()
    assert "OPTIM.LR: " in ask.refusal("OPTIM.LR", "0.5", parts=["train"])
    assert ask.refusal(parts=["train"]) is None


def test_other_weights_under_the_same_name(ask, tmp_path):
    clip = tmp_path / "clip.pt"
    clip.write_text("one")
    ask.finish(known={"weights_hash": file_hash(clip)}, backbone=str(clip))
    assert ask.refusal(backbone=str(clip)) is None
    clip.write_text("two!")
    assert "the weights of CLIP (SHA-256): " in ask.refusal(backbone=str(clip))


def test_other_data_in_another_folder(ask, toy, tmp_path):
    request = {"datasets": ["colored_shapes"], "shots": [2], "parts": ["train"]}
    (run,) = ask(data=toy, **request)
    plan, elsewhere = planned._plan(run.arguments, {}), {"root": "/elsewhere", "data_hash": "?"}
    found = planned._data_elsewhere(plan, elsewhere)
    ask.finish(known={"root": str(toy), "data_hash": found}, data=toy, **request)
    other = shutil.copytree(toy, tmp_path / "other")
    assert ask.refusal(data=other, **request) is None
    split = other / "colored_shapes" / "split_zhou_ColoredShapes.json"
    split.write_text(split.read_text().replace("red circle", "crimson disc"))
    assert "the data (SHA-256): " in ask.refusal(data=other, **request)
    assert ask.refusal(data=toy, **request) is None
    assert ask.refusal(data=tmp_path / "not_here", **request) is None  # perhaps where it runs


def test_missing_data_are_refused_before_any_run_starts(ask, toy, tmp_path):
    request = {"datasets": ["colored_shapes"], "parts": ["train"], "data_here": True}
    assert ask.refusal(data=toy, **request) is None
    refusal = ask.refusal(data=tmp_path / "typo", **request)
    assert str(tmp_path / "typo") in refusal
    refusal = ask.refusal(data=toy, **request | {"datasets": ["colored_shapes", "dtd", "eurosat"]})
    assert "(1 more of these runs are refused likewise)" in refusal


@pytest.mark.parametrize(
    ("flags", "needed"),
    [
        ((), [False, True]),  # of the finished run no data are needed
        (("--on", "slurm"), [False, False]),  # they may be on its nodes
        (("--dry-run",), [False, False]),
    ],
)
def test_where_data_are_needed(flags, needed, ask, monkeypatch):
    ask.finish(parts=["train"])
    asked = []
    monkeypatch.setattr(cli, "check_plan", lambda runs, need: asked.append(need) or 75)
    assert cli.main([*FLAGS, "--output", str(ask.output), *flags]) == 75
    assert asked == [needed]


def test_a_result_without_what_is_asked_for(ask):
    ask.finish(parts=["train"])
    (run,) = ask(parts=["train"])
    config = ask.output / TRAIN / "config.yaml"
    config.write_text(planned._plan(run.arguments, {}).cfg.dump())
    opts = ("TEST.SAVE_PREDICTIONS", "True")
    assert ask.refusal(parts=["train"]) is None
    refusal = ask.refusal(*opts, parts=["train"])
    assert "found without TEST.SAVE_PREDICTIONS; delete results.json there" in refusal
    (ask.output / TRAIN / "results.json").unlink()  # as the message says
    assert ask.refusal(*opts, parts=["train"]) is None


def test_settings_are_those_of_a_run(runs, toy):
    """What is planned is what train.py leaves."""
    folder = runs("MMRL")
    config = dict(flatten(read_yaml(folder / "config.yaml")))
    record = json.loads((folder / "results.json").read_text())
    assert record["settings"].items() <= config.items()
    from tests.helpers.toy_run import SAVE, command

    plan = planned._plan(command(toy, "MMRL", folder, opts=SAVE), {})
    assert plan.settings == record["settings"]


# The process that compares, and who asks it


@pytest.mark.parametrize("on", ["foreground", "local", "slurm", "--dry-run"])
def test_nothing_is_started_where_a_run_is_another(on, ask, monkeypatch, capsys):
    """However runs are computed; the words are those of a process of its own for one of them."""
    ask.finish()
    if on != "local":
        monkeypatch.setattr(cli, "check_plan", lambda *_: (_ for _ in ()).throw(ValueError("no")))
    flags = [*FLAGS, *(("--on", on) if on != "--dry-run" else (on,)), "--backbone", "small"]
    assert cli.main([*flags, "--output", str(ask.output), "--", "OPTIM.LR", "0.5"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and not (ask.output / ".sweep").exists()
    assert err == "error: no\n" if on != "local" else "OPTIM.LR: 0.002 there, 0.5 now" in err


def test_a_signal_that_comes_meanwhile(ask, tmp_path, monkeypatch):
    slow = tmp_path / "python"
    slow.write_text("#!/bin/sh\nkill -TERM $PPID; sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PYTHON", str(slow))
    before = signal.getsignal(signal.SIGTERM)
    assert plan.check_plan(ask(), [False] * 2) == 75
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_process_that_cannot_compare_says_why(ask, tmp_path, monkeypatch):
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no torch here; exit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PYTHON", str(broken))
    with pytest.raises(OSError, match="could not be found out:\nno torch here"):
        plan.check_plan(ask(), [False] * 2)


# What is finished


@pytest.mark.parametrize(
    "change",
    [{"complete": "true"}, {"correct": 2}, {"accuracy": 49.0}, {"total": 0}, {"correct": "1"}],
    ids=str,
)
def test_a_record_that_contradicts_itself_is_computed_again(change, tmp_path):
    """As it is unreadable for the tables."""
    file = tmp_path / "a" / "seed1" / "results.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(RECORD))
    assert RunStore(tmp_path).is_finished("a/seed1") and find_runs(tmp_path)[0].complete
    file.write_text(json.dumps(RECORD | change))
    assert not RunStore(tmp_path).is_finished("a/seed1") and not find_runs(tmp_path)[0].complete


def test_a_test_of_weights_that_were_trained_again_is_not_finished(tmp_path):
    store, file = RunStore(tmp_path), tmp_path / "train" / "model.pth.tar-2"
    file.parent.mkdir()
    file.write_text("weights")
    stat = file.stat()
    facts = {"file": "../train/model.pth.tar-2", "bytes": 7, "mtime_ns": stat.st_mtime_ns}
    record = RECORD | {"checkpoint": facts, "checkpoint_hash": file_hash(file)}
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "results.json").write_text(json.dumps(record))
    assert store.is_finished("test")
    assert not store.is_finished("test", after="train")  # which is computed first
    os.utime(file, ns=(0, 0))  # copied
    assert store.is_finished("test")
    file.write_text("retrained")
    assert not store.is_finished("test")
    file.unlink()
    assert store.is_finished("test")


# Folders of their own


def test_a_tag_is_a_variant_of_its_own(ask):
    (train, test) = ask(tag="lr=0.5")
    assert RunPath.parse(train.directory)[3:5] == ("CoOp", "small@lr=0.5")
    assert test.after == train.directory and str(ask.output / train.directory) in test.arguments
    ask.finish(tag="lr=0.5")
    ask.finish()
    assert set(methods_of(find_runs(ask.output)).runs) == {"CoOp/small", "CoOp/small@lr=0.5"}


@pytest.mark.parametrize(
    ("opts", "changes", "message"),
    [
        (("SEED", "5"), {}, "SEED is decided by --seeds of a sweep"),
        (("OPTIM.LR", "1", "DATASET.NUM_SHOTS", "4"), {}, "NUM_SHOTS is decided by --shots"),
        ((), {"tag": "a/b"}, "--tag 'a/b' cannot be part of a directory's name"),
        ((), {"tag": ""}, "--tag '' cannot be part"),
    ],
)
def test_what_would_not_be_what_its_folder_says(opts, changes, message, ask):
    with pytest.raises(ValueError, match=message):
        ask(*opts, **changes)
