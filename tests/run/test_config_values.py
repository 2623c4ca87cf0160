"""Every value of every key: one training step, or a message before any data is read."""

import io
import re
import warnings
from contextlib import redirect_stdout

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import train
from dassl.engine import TRAINER_REGISTRY, build_trainer
from datasets.few_shot import FewShotDataset
from run.config import build_config, default_config, flatten
from run.values import ENGINE, check_values, keys_of
from tests.helpers.toy_run import command, trainer_names
from training.trainer import CLIPTrainer

# Keys that the command below needs for its data; what they may be, tests of data sets say.
GIVEN = {"DATASET.NAME", "DATASET.ROOT", "TRAINER.NAME", "OUTPUT_DIR"}
# Other processes take long; the names of layers are known only when the learner is there.
APART = {"DATALOADER.NUM_WORKERS", "OPTIM.NEW_LAYERS"}
NUMBERS = (-1, 0, 1, 2, 3, 5, 31, 77, 1000, 10**10, -(10**12))
WORDS = ("", "none", "val", "fp32", "end", "a photo of a", "{} {}", "the {}.", "x " * 80, "\0", "ä")


def leaves() -> dict[str, object]:
    return dict(flatten(default_config()))


def values(default: object) -> st.SearchStrategy[object]:
    """Values that are plausible for a default, and some that are not, some of another type."""
    whole = st.sampled_from(NUMBERS) | st.integers()
    real = st.sampled_from((0.0, -0.5, 0.1, 1.0, 1e-30, 1e30)) | st.floats()
    text = st.sampled_from(WORDS) | st.text(max_size=12)
    items = st.sampled_from((0.5, 1, 2, 3, 32, "normalize", "random_flip", True, None, ()))
    fitting = {
        bool: st.booleans(),
        int: whole,
        float: real,
        str: text,
        list: st.lists(items | whole | real, max_size=4),
        tuple: st.lists(items | whole | text, max_size=4),
    }[type(default)]
    if isinstance(default, list | tuple) and default:
        near = st.lists(st.sampled_from([*default, 1, 2, 3]), min_size=1, max_size=4)
        fitting = near | fitting
    return st.one_of(fitting, fitting, fitting, st.just(default), whole, text, st.none())


class Stepped(Exception):
    """A training step was made, or everything was tested."""


class Run:
    """Says whether data was read; ends training after its first step."""

    def __init__(self, monkeypatch, toy, folder):
        self.toy, self.folder = toy, folder
        load_split = FewShotDataset.load_split
        monkeypatch.setattr(FewShotDataset, "load_split", lambda s: self.read(load_split(s)))
        step = CLIPTrainer.forward_backward
        monkeypatch.setattr(CLIPTrainer, "forward_backward", lambda s, b: self.stop(step(s, b)))
        monkeypatch.setattr(CLIPTrainer, "init_writer", lambda *_: None)

    def read(self, split):
        self.has_read = True
        return split

    def stop(self, losses):
        raise Stepped(losses)

    def __call__(self, trainer: str, changes: dict[str, object]) -> str:
        """How it went: the message of a refusal, or nothing. All other errors come out."""
        self.has_read = False
        opts = [word for key, value in changes.items() for word in (key, value)]
        arguments = command(self.toy, trainer, self.folder)
        args = train.parse_args(arguments)
        args.opts += ["DATALOADER.NUM_WORKERS", "0", *opts]
        try:
            with redirect_stdout(io.StringIO()):
                cfg, _ = build_config(args)
                train.check_data(cfg)
                train.check_places(args, cfg, self.folder)
                build_trainer(cfg).train()
        except (ValueError, OSError) as error:
            assert not self.has_read, f"{changes} was refused after data had been read: {error}"
            assert str(error).count("\n") < 12, error
            return str(error)
        except Stepped:
            pass
        return ""


@pytest.fixture
def run(monkeypatch, toy, tmp_path):
    warnings.simplefilter("ignore")  # of values at the edge; the outcome is what counts
    with warnings.catch_warnings():
        yield Run(monkeypatch, toy, tmp_path / "run")


def used_keys(trainer: str) -> list[str]:
    node = f"TRAINER.{TRAINER_REGISTRY.get(trainer).node}."
    return [k for k in leaves() if not k.startswith("TRAINER.") or k.startswith(node)]


@st.composite
def changes(draw) -> tuple[str, dict[str, object]]:
    """A trainer, and one to three keys of its config with new values."""
    trainer = draw(st.sampled_from(trainer_names()))
    known = leaves()
    names = [key for key in used_keys(trainer) if key not in GIVEN | APART]
    own = [key for key in names if key.startswith(("TRAINER.", "OPTIM.", "INPUT.", "DATALOADER."))]
    keys = draw(st.lists(st.sampled_from(names) | st.sampled_from(own), min_size=1, max_size=3))
    return trainer, {key: draw(values(known[key])) for key in keys}


def check(run: Run, case: tuple[str, dict[str, object]]) -> None:
    message = run(*case)
    words = [word for key in case[1] for word in key.lower().split(".")[-2:]]
    assert not message or any(word in message.lower() for word in words), message


FUZZ = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
}


@settings(max_examples=60, derandomize=True, **FUZZ)
@given(case=changes())
def test_any_value_runs_or_is_refused_first(run, case):
    check(run, case)


@pytest.mark.slow
@settings(max_examples=600, **FUZZ)
@given(case=changes())
def test_many_values_run_or_are_refused_first(run, case):
    check(run, case)


def test_the_table_has_keys_that_exist_once():
    keys = [key for pattern, _, _ in ENGINE for key in keys_of(pattern)]
    assert set(keys) <= leaves().keys()
    assert len(set(keys)) == len(keys)


def test_the_defaults_are_allowed():
    for name in ("", *trainer_names()):
        cfg = default_config()
        cfg.TRAINER.NAME = name
        check_values(cfg)


def test_a_method_may_be_taken_out():
    cfg = default_config()
    del cfg.TRAINER["MMRLPLUS"]
    check_values(cfg)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"OPTIM.SGD_NESTEROV": "True", "OPTIM.SGD_DAMPNING": "1"}, "SGD_DAMPNING 0"),
        ({"INPUT.RRCROP_SCALE": "(0.9, 0.1)"}, "the smaller share comes first"),
        ({"INPUT.TRANSFORMS": "['gaussian_blur']", "INPUT.GB_K": "4"}, "an odd number"),
        ({"INPUT.TRANSFORMS": "['gaussian_blur']", "INPUT.GB_K": "65"}, "below twice .* 64"),
        ({"DATALOADER.TRAIN_X.SAMPLER": "RandomClassSampler"}, "at least .*N_INS, 16"),
        ({"DATALOADER.NUM_WORKERS": "-1"}, "from 0 to 1,024"),
    ],
)
def test_wrong_together(run, changes, says):
    assert re.search(says, run("CoOp", changes))
