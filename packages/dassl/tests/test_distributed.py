"""One run in several processes ends as it does in one."""

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributed import TCPStore
from torch.nn import functional as F
from torch.utils.data import DataLoader

from dassl.data import sharding
from dassl.data.loader import usable_cores
from dassl.data.sharding import BatchSharding, gather_rows
from dassl.engine import TrainerBase, build_trainer
from dassl.engine.checkpointing import find_snapshots
from dassl.engine.gradient_averaging import GradientAveraging, check_no_batch_norm
from dassl.evaluation import EVALUATOR_REGISTRY, Classification
from dassl.utils import distributed, set_random_seed
from dassl.utils.stopping import Stopped

FORK = multiprocessing.get_context("fork")


class Answers(Classification):
    """Keeps what it was given."""

    def __init__(self, cfg, **kwargs):
        super().__init__(cfg, **kwargs)
        self.given = []

    def process(self, mo, gt):
        super().process(mo, gt)
        self.given.append((mo.clone(), gt.clone()))


@pytest.fixture(autouse=True)
def plain(toy_plugin, monkeypatch):
    """Without dropout, whose masks are drawn in every process; and an evaluator that remembers."""
    monkeypatch.setattr(
        toy_plugin.PatchLearner,
        "forward",
        lambda self, x: self.linear(F.avg_pool2d(x, 2).flatten(1)),
    )
    monkeypatch.setattr(EVALUATOR_REGISTRY, "_objects", dict(EVALUATOR_REGISTRY._objects))
    EVALUATOR_REGISTRY._objects["Answers"] = Answers


@pytest.fixture
def spread(tmp_path):
    """Return a function: what `work` returns in each of `count` processes, which must exit so."""

    def run(count, work, codes=0):
        port = FORK.Value("i", 0)
        there = [FORK.Process(target=child, args=(count, r, port, work)) for r in range(count)]
        for process in there:
            process.start()
        # as torchrun has it; its thread must not be there when processes are forked
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        port.value = store.port
        for process in there:
            process.join(60)
        found = [process.exitcode for process in there]
        assert found == (codes if isinstance(codes, list) else [codes] * count)
        files = [tmp_path / f"returned-{r}" for r in range(count)]
        return [torch.load(file, weights_only=False) for file in files if file.is_file()]

    def child(count, number, port, work):
        while not port.value:
            time.sleep(0.01)
        os.environ.update(RANK=str(number), LOCAL_RANK=str(number), WORLD_SIZE=str(count))
        os.environ.update(LOCAL_WORLD_SIZE=str(count), MASTER_ADDR="127.0.0.1")
        os.environ["MASTER_PORT"] = str(port.value)
        os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"
        (tmp_path / f"returned-{number}").unlink(missing_ok=True)
        with distributed.processes():
            torch.save(work(), tmp_path / f"returned-{number}")
        sys.stdout.flush()

    return run


# Shards


@pytest.mark.parametrize("count", [1, 2, 5])
def test_shards_are_the_batch(make_cfg, count):
    dataset = build_trainer(make_cfg()).test_loader.dataset
    dataset._fetch = lambda index: index
    for size in range(1, 12):
        batch, shards = list(range(100, 100 + size)), []
        for number in range(count):
            dataset.shard = (number, count)
            shards.append(dataset.__getitems__(batch))
        loaded = [index for shard in shards for index in shard]
        assert all(shards) and set(loaded) == set(batch)
        assert len(loaded) == max(size, count)  # one that would have none repeats the first


def pretend(monkeypatch, number, count):
    monkeypatch.setattr(sharding, "rank", lambda: number)
    monkeypatch.setattr(sharding, "world_size", lambda: count)


@pytest.mark.parametrize("kind", [torch.float32, torch.int64, torch.bfloat16, torch.bool])
def test_shards_are_gathered_in_order(kind, monkeypatch):
    for count, size in ((2, 1), (2, 5), (2, 6), (3, 7), (4, 3)):
        whole = torch.arange(size * 2).reshape(size, 2).to(kind)
        shards = [whole[number::count] if number < size else whole[:1] for number in range(count)]
        most = max(map(len, shards))
        padded = [torch.cat([s, torch.zeros_like(s[:1]).expand(most - len(s), 2)]) for s in shards]
        pretend(monkeypatch, 0, count)
        for shard in shards:
            monkeypatch.setattr(
                sharding, "all_gather", lambda own, most=most, all=padded: len(own) == most and all
            )
            assert torch.equal(gather_rows(shard, size), whole)


@pytest.mark.parametrize(("size", "count", "says"), [(5, 2, "4 or 6"), (1, 2, "2"), (100, 4, "16")])
def test_batches_that_do_not_divide_are_refused(make_cfg, monkeypatch, size, count, says):
    trainer = build_trainer(make_cfg("DATALOADER.TRAIN_X.BATCH_SIZE", size))
    pretend(monkeypatch, 0, count)
    with pytest.raises(ValueError, match=rf"cannot be divided .*BATCH_SIZE to {says}[,;]"):
        trainer.train()
    assert not Path(trainer.output_dir).exists()
    own = DataLoader(trainer.train_loader_x.dataset, batch_size=5, shuffle=True)
    BatchSharding(own).check_equal_shards()  # every process has all of its batches


def test_processes_share_the_cores(monkeypatch):
    alone = usable_cores()
    monkeypatch.setattr("dassl.data.loader.local_world_size", lambda: 2 * alone)
    assert usable_cores() == 1


# Gradients


def batch_loss(model, images, labels):
    """A mean over images, and a term that does not depend on them."""
    return F.cross_entropy(model(images), labels) + 0.1 * model.weight.square().sum()


def whole_batch(size=7):
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    return model, torch.randn(size, 4), torch.arange(size) % 3


class Stub:
    """Of a trainer."""

    def __init__(self, model, optim):
        self._models, self._optims = {"net": model}, {"net": optim}


def in_parallel(model, optim):
    GradientAveraging().before_train(Stub(model, optim))


def test_gradients_are_those_of_the_whole_batch(spread):
    """Also where they are accumulated over several backward passes."""

    def run(part):
        model, images, labels = whole_batch(6)
        optim = torch.optim.SGD([*model.parameters(), nn.Parameter(torch.ones(2))], 0.1, 0.9)
        in_parallel(model, optim)
        for _ in range(2):
            optim.zero_grad()
            for _ in range(2):
                batch_loss(model, images[part], labels[part]).backward()
            optim.step()
        return model.weight.detach()

    weights = spread(3, lambda: run(slice(distributed.rank(), None, 3)))
    assert all(torch.equal(weight, weights[0]) for weight in weights)
    torch.testing.assert_close(weights[0], run(slice(None)), rtol=1e-6, atol=1e-7)


def test_prograds_step_is_that_of_the_whole_batch(spread):
    def run(part):
        model, images, labels = whole_batch(6)
        trainer = TrainerBase()
        trainer.register_model("net", model, torch.optim.SGD(model.parameters(), 0.1))
        GradientAveraging().before_train(trainer)
        logits = model(images[part])
        trainer.prograd_backward_and_update(
            F.cross_entropy(logits, labels[part]), -logits.square().mean()
        )
        return model.weight.detach()

    for weight in spread(2, lambda: run(slice(distributed.rank(), None, 2))):
        torch.testing.assert_close(weight, run(slice(None)), rtol=1e-6, atol=1e-7)


def test_an_infinite_gradient_of_one_is_skipped_by_all(spread):
    def work():
        model, images, labels = whole_batch(4)
        optim = torch.optim.SGD(model.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
        in_parallel(model, optim)
        scales, before = [], model.weight.detach().clone()
        for step in range(2):
            optim.zero_grad()
            loss = batch_loss(model, images, labels)
            if step == 0 and distributed.rank() == 1:
                loss = loss * float("inf")
            scaler.scale(loss).backward()
            scaler.step(optim)
            scaler.update()
            scales.append((scaler.get_scale(), torch.equal(model.weight, before)))
        return scales

    assert spread(2, work) == [[(4.0, True), (4.0, False)]] * 2


def test_batch_normalization_is_refused():
    trainer = Stub(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), object())
    with pytest.raises(ValueError, match=r"net is trained with .*BatchNorm1d.*without torchrun"):
        check_no_batch_norm(trainer)
    trainer._optims["net"] = None
    check_no_batch_norm(trainer)


# Whole runs


def train(make_cfg, folder, *options, change=lambda trainer: None):
    """What a run comes to: weights, scalars, everything its evaluator was given, results."""
    cfg = make_cfg("TEST.EVALUATOR", "Answers", "OPTIM.MAX_EPOCH", 2, "TRAIN.PRINT_FREQ", 1)
    cfg.merge_from_list([*options, "OUTPUT_DIR", str(folder)])
    set_random_seed(1 + distributed.rank())  # they are to begin alike by themselves
    trainer = build_trainer(cfg)
    change(trainer)
    scalars, write = [], trainer.write_scalar
    trainer.write_scalar = lambda *scalar: (scalars.append(scalar), write(*scalar))
    trainer.train()
    weights = torch.cat([p.detach().flatten() for p in trainer.model.parameters()])
    return {
        "weights": weights,
        "scalars": scalars,
        "given": trainer.evaluator.given,
        "best": float(trainer.best_result),
    }


def assert_same_run(found, expected):
    torch.testing.assert_close(found["weights"], expected["weights"], rtol=1e-5, atol=1e-7)
    assert [s[::2] for s in found["scalars"]] == [s[::2] for s in expected["scalars"]]
    values = [[s[1] for s in run["scalars"]] for run in (found, expected)]
    assert values[0] == pytest.approx(values[1], rel=1e-5)
    for (scores, labels), (others, theirs) in zip(found["given"], expected["given"], strict=True):
        torch.testing.assert_close(scores, others, rtol=1e-4, atol=1e-6)
        assert torch.equal(labels, theirs)
    assert found["best"] == expected["best"]


@pytest.mark.parametrize(
    ("count", "options"),
    [
        (2, ("OPTIM.NAME", "adamw", "DATALOADER.NUM_WORKERS", 1)),
        (2, ("TEST.FINAL_MODEL", "best_val", "DATALOADER.TEST.BATCH_SIZE", 1)),
        (3, ("DATALOADER.TRAIN_X.BATCH_SIZE", 100)),
    ],
)
def test_several_processes_are_one(make_cfg, tmp_path, spread, count, options):
    one = train(make_cfg, tmp_path / "one", *options)
    several = spread(count, lambda: train(make_cfg, tmp_path / "several", *options))
    for found in several:
        assert torch.equal(found["weights"], several[0]["weights"])
        assert_same_run(found, one)
    files = [
        sorted(
            str(path.relative_to(run)) for path in run.rglob("*") if "tensorboard" not in str(path)
        )
        for run in (tmp_path / "one", tmp_path / "several")
    ]
    assert files[0] == files[1]
    assert len(list((tmp_path / "several" / "tensorboard").iterdir())) == 1


def test_trainers_that_step_themselves_and_loaders_of_ones_own(make_cfg, tmp_path, spread):
    def change(trainer):
        trainer.train_loader_x = DataLoader(
            trainer.train_loader_x.dataset, batch_size=4, shuffle=True, drop_last=True
        )

        def forward_backward(batch):
            images, labels = trainer.parse_batch_train(batch)
            loss = F.cross_entropy(trainer.model(images), labels)
            trainer.optim.zero_grad()
            loss.backward()
            trainer.optim.step()
            return {"loss": loss}

        trainer.forward_backward = forward_backward

    def in_order(trainer):
        distributed_loader = trainer.train_loader_x
        change(trainer)
        trainer.train_loader_x = distributed_loader

    for prepare in (change, in_order):
        one = train(make_cfg, tmp_path / f"one {prepare}", change=prepare)
        work = lambda p=prepare: train(make_cfg, tmp_path / f"several {p}", change=p)  # noqa: E731
        for found in spread(2, work):
            assert_same_run(found, one)


def test_all_begin_with_the_weights_of_the_first(make_cfg, tmp_path, spread):
    def change(trainer):
        with torch.no_grad():
            trainer.model.linear.weight += distributed.rank()

    one = train(make_cfg, tmp_path / "one")
    for found in spread(2, lambda: train(make_cfg, tmp_path / "several", change=change)):
        assert_same_run(found, one)


def test_only_the_first_process_is_heard(make_cfg, tmp_path, spread, capfd):
    spread(2, lambda: train(make_cfg, tmp_path / "run") and None)
    out, err = capfd.readouterr()
    assert out.count("=> result") == out.count("Finish training") == 1
    assert out.count("Checkpoint saved") == 1 and not err


# Ends


def nan_in(number, call):
    def change(trainer):
        forward, calls = trainer.model.forward, []

        def breaking(images):
            calls.append(1)
            answer = forward(images)
            return answer * float("nan") if here(number) and len(calls) == call else answer

        trainer.model.forward = breaking

    return change


def here(number):
    return distributed.rank() == number


@pytest.mark.parametrize(("number", "tells"), [(0, True), (1, True), (1, False)])
def test_no_number_in_one_process_ends_all(make_cfg, tmp_path, spread, number, tells):
    def change(trainer):
        nan_in(number, 3)(trainer)
        step = trainer.forward_backward
        trainer.forward_backward = lambda batch: step(batch) if tells else step(batch) and {}

    def work():
        with pytest.raises(FloatingPointError) as error:
            train(make_cfg, tmp_path / "run", change=change)
        return str(error.value)

    said = spread(2, work)
    assert said[0] == said[1] and "infinite or NaN in epoch 1, batch 3" in said[0]
    assert not (tmp_path / "run" / "learner").exists()


def stopped_in(number, call, name="forward_backward"):
    """A signal reaches one of the processes."""

    def change(trainer):
        original, calls = getattr(trainer, name), []

        def signalling(*args):
            calls.append(1)
            if here(number) and len(calls) == call:
                os.kill(os.getpid(), signal.SIGTERM)
            return original(*args)

        setattr(trainer, name, signalling)

    return change


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize(
    ("name", "call", "place"), [("forward_backward", 3, (0, 3)), ("parse_batch_test", 1, (0, 4))]
)
def test_all_stop_at_one_place_and_go_on(make_cfg, tmp_path, spread, number, name, call, place):
    options = ("DATALOADER.TRAIN_X.BATCH_SIZE", 4, "OPTIM.NAME", "adam")
    options = (*options, "TEST.FINAL_MODEL", "best_val")
    one = train(make_cfg, tmp_path / "one", *options)
    (whole, _) = spread(2, lambda: train(make_cfg, tmp_path / "whole", *options))

    def stop():
        with pytest.raises(Stopped):
            train(make_cfg, tmp_path / "run", *options, change=stopped_in(number, call, name))

    def go_on(folder):
        return train(make_cfg, tmp_path / folder, *options)

    spread(2, stop)
    assert find_snapshots(tmp_path / "run")[0][0] == place
    os.system(f"cp -r {tmp_path}/run {tmp_path}/alone")
    for found in spread(2, lambda: go_on("run")):
        assert torch.equal(found["weights"], whole["weights"])
        assert found["best"] == whole["best"]
    alone = go_on("alone")
    torch.testing.assert_close(alone["weights"], one["weights"], rtol=1e-5, atol=1e-7)
    last = [scalars[-1] for scalars in (alone["scalars"], one["scalars"])]
    assert last[0] == pytest.approx(last[1]) or last[0] == last[1]


def test_one_process_is_continued_by_two(make_cfg, tmp_path, spread):
    with pytest.raises(Stopped):
        train(make_cfg, tmp_path / "run", change=stopped_in(0, 6))
    one = train(make_cfg, tmp_path / "one")
    for found in spread(2, lambda: train(make_cfg, tmp_path / "run")):
        torch.testing.assert_close(found["weights"], one["weights"], rtol=1e-5, atol=1e-7)
        assert found["scalars"][0][2] == 6  # from the next step on, with the means of the epoch
        values = [{s[::2]: s[1] for s in run["scalars"]} for run in (found, one)]
        key = ("train/loss", 7)
        assert values[0][key] == pytest.approx(values[1][key], rel=1e-5)


def ends(error_in):
    """A run that ends with an error in some processes, as train.py does with it."""
    try:
        distributed.barrier()
        if distributed.rank() in error_in:
            raise ValueError("this is wrong")
        distributed.barrier()
    except ValueError as error:
        distributed.report_once(f"error: {error}", 2)
        raise SystemExit(2) from None


@pytest.mark.parametrize(("error_in", "codes"), [((0, 1), [2, 2]), ((0,), [2, 1]), ((1,), [2, 2])])
def test_an_error_is_said_once(spread, capfd, error_in, codes, monkeypatch):
    monkeypatch.setattr(distributed, "ERROR_TIMEOUT_S", 5)
    assert spread(2, lambda: ends(error_in), codes=codes) == []
    assert capfd.readouterr().err == "error: this is wrong\n"


def test_a_fault_shows_one_traceback(spread, capfd):
    def work():
        raise RuntimeError("a fault")

    spread(2, work, codes=[1, 1])
    assert capfd.readouterr().err.count("RuntimeError: a fault") == 1


def test_one_that_is_killed_takes_the_others_along(spread, capfd, monkeypatch):
    monkeypatch.setattr(distributed, "ERROR_TIMEOUT_S", 0.2)

    def work():
        distributed.barrier()
        if here(1):
            os.kill(os.getpid(), signal.SIGKILL)
        distributed.barrier()

    spread(2, work, codes=[1, -signal.SIGKILL])
    assert "ended without a word" in capfd.readouterr().err


# One process


def test_without_torchrun_nothing_is_started(monkeypatch):
    for name in distributed.ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    with distributed.processes():
        assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (0, 1, True)
        assert not torch.distributed.is_initialized()
    for name in distributed.ENVIRONMENT:
        monkeypatch.setenv(name, "1")  # torchrun --nproc-per-node 1
    with distributed.processes():
        assert not torch.distributed.is_initialized()


def test_fewer_gpus_than_processes(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    distributed.check_gpu()
    monkeypatch.setattr(distributed._State, "world_size", 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"2 processes .* 1 GPU: .*--nproc-per-node"):
        distributed.check_gpu()
