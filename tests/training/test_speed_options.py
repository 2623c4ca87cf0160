"""TRAIN.COMPILE, evaluation in parts, and memory given back: no number changes."""

import functools
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.helpers.toy_run import REPO, build, command
from training import compiled
from training.adaptive_batch import LargestParts


def trained(toy, folder, *opts, name="MMRL"):
    trainer = build([*command(toy, name, folder), *opts])
    trainer.train()
    return trainer.method.learner.state_dict()


def same(a, b, tolerance):
    return all(torch.allclose(a[key], b[key], atol=tolerance) for key in a)


@pytest.mark.parametrize("name", ["MMRL", "CoOp"])
def test_a_compiled_step_trains_alike(name, toy, tmp_path, monkeypatch):
    """The traced graph without code generation, which takes long."""
    eager = functools.partial(torch.compile, backend="aot_eager")
    monkeypatch.setattr(compiled.torch, "compile", lambda step, **_: eager(step))
    torch._dynamo.reset()
    graph = trained(toy, tmp_path / "a", "TRAIN.COMPILE", "True", name=name)
    assert same(graph, trained(toy, tmp_path / "b", name=name), 1e-6)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs g++")
@pytest.mark.filterwarnings("ignore")  # of the compiler's own
@pytest.mark.parametrize("name", ["MMRL", "MMRLPlus"])
def test_compiled_code_trains_alike(name, toy, tmp_path):
    torch._dynamo.reset()
    code = trained(toy, tmp_path / "a", "TRAIN.COMPILE", "True", name=name)
    assert same(code, trained(toy, tmp_path / "b", name=name), 1e-4)


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("precision", ["fp32", "amp"])
def test_cuda_graphs_train_alike(precision, toy, tmp_path):
    opts = ("USE_CUDA", "True", "TRAINER.MMRL.PREC", precision)
    torch._dynamo.reset()
    graphs = trained(toy, tmp_path / "a", "TRAIN.COMPILE", "True", *opts)
    assert same(graphs, trained(toy, tmp_path / "b", *opts), 1e-4 if precision == "fp32" else 1e-2)


def miscompiled(step, **_):
    def wrong(images, labels):
        terms, logits = step(images, labels)
        return {name: 1.1 * term for name, term in terms.items()}, logits

    return wrong


def uncompilable(step, **_):
    def fails(images, labels):
        raise torch._dynamo.exc.TorchDynamoException("no compiler found\nlong story")

    return fails


@pytest.mark.parametrize(
    ("compiler", "message"),
    [
        (miscompiled, r"ce_class differs .* by 1\.0e-01 .*train with TRAIN.COMPILE False"),
        (uncompilable, r"no compiler found\)\. It needs a C\+\+ compiler"),
    ],
)
def test_a_compiler_that_fails_or_changes_numbers_is_refused(
    compiler, message, toy, tmp_path, monkeypatch
):
    monkeypatch.setattr(compiled.torch, "compile", compiler)
    with pytest.raises(ValueError, match=message):
        trained(toy, tmp_path, "TRAIN.COMPILE", "True")


def test_a_compiler_is_not_blamed(monkeypatch):
    learner = torch.nn.Linear(2, 3)

    def step(images, labels):
        return {"ce": learner(images).sum() * math.nan}, labels

    monkeypatch.setattr(compiled.torch, "compile", lambda step, **_: step)
    with pytest.raises(FloatingPointError, match="the ce of the first batch is infinite or NaN"):
        compiled.CompiledStep(step, learner, torch.float32)(torch.ones(4, 2), torch.zeros(4))


def test_parts_on_a_cpu_are_bounded_and_in_order():
    seen = []

    def answer(part):
        seen.append(len(part))
        return 2 * part

    images = torch.arange(70.0)[:, None]
    assert torch.equal(LargestParts(torch.device("cpu"))(answer, images), 2 * images)
    assert seen == [25, 25, 20]


def test_parts_shrink_until_they_fit(capsys):
    def answer(part):
        if len(part) > 3:
            raise torch.cuda.OutOfMemoryError("too large")
        return part

    parts = LargestParts(torch.device("cuda"))
    images = torch.arange(16.0)[:, None]
    assert torch.equal(parts(answer, images), images) and parts.most == 2
    assert capsys.readouterr().out.count("Not enough memory") == 3
    assert torch.equal(parts(answer, images), images)
    assert not capsys.readouterr().out

    def never(part):
        raise torch.cuda.OutOfMemoryError("too large")

    with pytest.raises(torch.cuda.OutOfMemoryError):
        parts(never, images)


HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
USES_HUGE_PAGES = """
import frozen_clip
frozen_clip.load("small")
import torch
x = torch.ones(32 << 20)
lines = open("/proc/self/smaps_rollup").read().splitlines()
print(next(int(line.split()[1]) for line in lines if line.startswith("AnonHugePages")))
"""


@pytest.mark.skipif(
    not HUGE_PAGES.is_file() or "[never]" in HUGE_PAGES.read_text(), reason="Linux offers none"
)
@pytest.mark.parametrize(("wish", "least"), [({}, 100_000), ({"THP_MEM_ALLOC_ENABLE": "0"}, 0)])
def test_tensors_stand_on_huge_pages_unless_the_user_says_no(wish, least):
    environment = {k: v for k, v in os.environ.items() if k != "THP_MEM_ALLOC_ENABLE"} | wish
    command = [sys.executable, "-W", "ignore", "-c", USES_HUGE_PAGES]
    done = subprocess.run(
        command, env=environment, cwd=REPO, capture_output=True, text=True, check=True
    )
    kilobytes = int(done.stdout.splitlines()[-1])
    assert kilobytes >= least and (
        least or kilobytes < 100_000 or "[always]" in HUGE_PAGES.read_text()
    )
