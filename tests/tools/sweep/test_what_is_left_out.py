"""Sweeps over methods that answer for their training classes alone."""

from pathlib import Path

import pytest

from dassl.engine import TRAINER_REGISTRY
from run.config import default_config
from tools.sweep.cli import main
from tools.sweep.protocols import CLASS_BOUND, TARGETS, VARIANTS, Request, expand, known_methods


def runs(protocol: str, **more):
    return expand(Request(protocol, ["TipAdapter"], Path("out"), Path("data"), seeds=[1], **more))


def test_the_list_is_that_of_the_trainers():
    default_config()
    bound = [m for m in known_methods() if TRAINER_REGISTRY.get(m).learns_classes]
    assert sorted(CLASS_BOUND) == bound


def test_no_new_classes_and_no_other_datasets():
    base = runs("base2new", datasets=["dtd"])
    assert [run.directory.split("/")[1] for run in base] == ["train_base"]
    tested = [run.directory.split("/")[2] for run in runs("cross_dataset")[1:]]
    assert tested == list(VARIANTS) and not set(tested) & set(TARGETS)
    assert len(runs("cross_dataset", source="dtd")) == 1  # its classes are not ImageNet's
    assert len(runs("few_shot", datasets=["dtd"])) == 5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["base2new", "--methods", "CoOp", "Tip-Adapter", "LP++"], "TipAdapter, LPPlusPlus on new"),
        (["cross_dataset", "--methods", "TaskRes"], "TaskRes on datasets with other classes"),
        (["few_shot", "--methods", "TaskRes"], ""),
        (["base2new", "--methods", "TaskRes", "--part", "train"], ""),
    ],
)
def test_what_is_said(arguments, said, capsys):
    assert main([*arguments, "--datasets", "dtd", "--seeds", "1", "--commands"]) == 0
    told = capsys.readouterr().err
    assert told.startswith(f"Left out: tests of {said}") if said else not told
