"""Loaders: what a batch holds, and that its randomness is the image's own."""

import multiprocessing
import os
import random
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dassl.data import DataManager, DatasetWrapper
from dassl.data.data_manager import build_data_loader
from dassl.data.datasets import Datum
from dassl.data.loader import _end_workers, stop_workers
from dassl.data.seeding import SeededIndex, generators_at, set_loader_epoch
from dassl.data.transforms import build_transform


def every_generator(image):
    """A transform that draws from all generators a plugin may use."""
    noise = random.random() + np.random.rand()
    return np.asarray(image).mean() + noise + torch.rand(2)


@pytest.fixture
def items(image_root):
    paths = sorted((image_root / "drawn" / "train").rglob("*.png"))
    return [Datum(str(path), label=number % 3, domain=1) for number, path in enumerate(paths)]


def train_loader(cfg, items, tfm=every_generator, **kwargs):
    return build_data_loader(
        cfg, "RandomSampler", items, batch_size=4, tfm=tfm, is_train=True, **kwargs
    )


def passes(loader, count=2):
    """Return what `count` passes yield, in a form that compares."""
    return [
        (batch["index"].tolist(), batch["img"].tolist()) for _ in range(count) for batch in loader
    ]


def test_a_batch(make_cfg, image_root):
    dm = DataManager(make_cfg())
    batch = next(iter(dm.train_loader_x))
    assert set(batch) == {"img", "label", "domain", "impath", "index"}
    assert batch["img"].shape == (4, 3, 16, 16) and batch["img"].dtype == torch.float32
    assert batch["domain"].tolist() == [0] * 4
    for index, label, path in zip(batch["index"], batch["label"], batch["impath"], strict=True):
        item = dm.dataset.train_x[index]
        assert (item.label, item.impath) == (label, path)
    assert batch["label"].dtype == batch["index"].dtype == torch.int64


def test_the_manager(make_cfg, capsys):
    dm = DataManager(
        make_cfg("DATASET.ALL_AS_UNLABELED", True, "DATASET.SOURCE_DOMAINS", ("a", "b"))
    )
    assert (dm.num_classes, dm.num_source_domains) == (3, 2)
    assert dm.lab2cname == dm.dataset.lab2cname == {0: "red", 1: "green", 2: "blue"}
    sizes = [len(getattr(dm, f"{name}_loader")) for name in ("val", "test")]
    assert [len(dm.train_loader_x), len(dm.train_loader_u), *sizes] == [4, 4, 2, 3]
    x, u = (passes(loader, 1) for loader in (dm.train_loader_x, dm.train_loader_u))
    assert [index for index, _ in x] != [index for index, _ in u]  # not the same order
    table = capsys.readouterr().out
    for words in ("Source", "a, b", "# classes", "# train_u", "# val", "# test"):
        assert words in table


def test_labelled_settings_serve_the_unlabelled_unless_told_otherwise(make_cfg):
    options = ["DATASET.ALL_AS_UNLABELED", True, "DATALOADER.TRAIN_U.BATCH_SIZE", 3]
    assert DataManager(make_cfg(*options)).train_loader_u.batch_size == 4
    options += ["DATALOADER.TRAIN_U.SAME_AS_X", False]
    assert DataManager(make_cfg(*options)).train_loader_u.batch_size == 3


def test_last_batch_is_dropped_only_if_there_is_a_full_one(make_cfg, items):
    cfg = make_cfg()
    assert [len(b["label"]) for b in train_loader(cfg, items[:7])] == [4]
    assert [len(b["label"]) for b in train_loader(cfg, items[:3])] == [3]
    test = build_data_loader(
        cfg, "SequentialSampler", items[:7], 4, tfm=every_generator, is_train=False
    )
    assert [len(b["label"]) for b in test] == [4, 3]
    assert [i for b in test for i in b["index"].tolist()] == list(range(7))


def test_empty_data_is_an_error(make_cfg):
    with pytest.raises(ValueError, match="no images to load"):
        train_loader(make_cfg(), [])


def test_batches_do_not_depend_on_the_number_of_workers(make_cfg, items):
    alone = passes(train_loader(make_cfg("DATALOADER.NUM_WORKERS", 0), items))
    cfg = make_cfg("DATALOADER.NUM_WORKERS", 2)
    helped = passes(train_loader(cfg, items))
    assert helped == alone
    assert alone[:4] != alone[4:]  # another order and other augmentations in the second pass
    first, second = (
        {i: view for indices, views in part for i, view in zip(indices, views, strict=True)}
        for part in (alone[:4], alone[4:])
    )
    assert any(first[i] != second[i] for i in first.keys() & second.keys())


def test_a_wrapper_of_ones_own_has_that_too(make_cfg, items):
    class Own(DatasetWrapper):
        def __getitem__(self, idx):
            return {"img": every_generator(Image.new("RGB", (2, 2))), "index": idx}

    runs = [
        passes(train_loader(make_cfg("DATALOADER.NUM_WORKERS", n), items, dataset_wrapper=Own))
        for n in (0, 2)
    ]
    assert runs[0] == runs[1]


def test_workers_live_on_over_epochs(make_cfg, items):
    class WhoLoads(DatasetWrapper):
        def __getitem__(self, idx):
            return {"pid": os.getpid()}

    loader = train_loader(make_cfg("DATALOADER.NUM_WORKERS", 1), items, dataset_wrapper=WhoLoads)
    pids = {pid for _ in range(3) for batch in loader for pid in batch["pid"].tolist()}
    assert len(pids) == 1 and os.getpid() not in pids
    stop_workers(loader)
    assert not pids & {batch["pid"][0].item() for batch in loader}


def test_a_process_ends_its_loaders_workers_and_nobody_else(make_cfg, items, monkeypatch):
    """A daemonic child of a host program is left to it."""
    foreign = multiprocessing.Process(target=time.sleep, args=(600,), daemon=True)
    foreign.start()
    others = set(multiprocessing.active_children())  # also workers of tests before it
    loader = train_loader(make_cfg("DATALOADER.NUM_WORKERS", 1), items)
    next(iter(loader))
    (worker,) = set(multiprocessing.active_children()) - others
    with monkeypatch.context() as patch:
        killed = []
        patch.setattr(
            multiprocessing.process.BaseProcess, "kill", lambda child: killed.append(child)
        )
        _end_workers()
        assert worker in killed and foreign not in killed
        killed.clear()
        patch.setattr(os, "getpid", lambda: 1)  # a child that was forked has its parent's list
        _end_workers()
    assert not killed and foreign.is_alive()
    foreign.kill()
    foreign.join()
    stop_workers(loader)


def test_more_workers_than_cores_are_not_started(make_cfg, items):
    loader = train_loader(make_cfg("DATALOADER.NUM_WORKERS", 500), items)
    assert 1 <= loader.num_workers < 500


def test_seed_decides_the_order(make_cfg, items):
    cfg = make_cfg()
    orders = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        orders.append(passes(train_loader(cfg, items)))
    assert orders[0] == orders[1] != orders[2]


def test_an_epoch_can_be_had_again(make_cfg, items):
    loader = train_loader(make_cfg(), items)
    runs = []
    for epoch in (0, 1, 0):
        set_loader_epoch(loader, epoch)
        runs.append(passes(loader, 2))
    assert runs[0] == runs[2] != runs[1]
    set_loader_epoch(None, 1)


def global_state():
    return random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()


def test_loading_leaves_the_global_generators_alone(make_cfg, items):
    cfg = make_cfg()
    before = global_state()
    for is_train in (False, True):
        if is_train:
            torch.manual_seed(0)
        loader = build_data_loader(
            cfg, "RandomSampler", items, 4, tfm=every_generator, is_train=is_train
        )
        if is_train:
            before = global_state()
        passes(loader)
        assert global_state() == before


def test_every_evaluation_is_the_same(make_cfg, items):
    loader = build_data_loader(
        make_cfg(), "RandomSampler", items, 5, tfm=every_generator, is_train=False
    )
    assert passes(loader, 1) == passes(loader, 1)


def test_generators_are_put_back_after_an_error():
    before = global_state()
    with pytest.raises(RuntimeError), generators_at(5):
        random.random()
        raise RuntimeError
    assert global_state() == before


def test_seeded_index_is_a_number():
    index = SeededIndex(3, 99)
    assert index == 3 and [10, 11, 12, 13][index] == 13 and index.seed == 99


@pytest.mark.parametrize("damage", ["cut", "missing"])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_stops_loading_with_its_name(make_cfg, items, tmp_path, workers, damage):
    broken = tmp_path / "broken.png"
    if damage == "cut":
        broken.write_bytes(Path(items[0].impath).read_bytes()[:100])
    cfg = make_cfg("DATALOADER.NUM_WORKERS", workers)
    loader = train_loader(cfg, [*items[:6], Datum(str(broken))])
    kind = OSError if damage == "cut" else FileNotFoundError
    with pytest.raises(kind, match=r"broken\.png") as refusal:
        passes(loader)
    assert "\n" not in str(refusal.value)  # no traceback of the worker
    stop_workers(loader)


def test_several_views(make_cfg, items):
    cfg = make_cfg("DATALOADER.K_TRANSFORMS", 2, "DATALOADER.RETURN_IMG0", True)
    cfg.INPUT.TRANSFORMS = ("random_resized_crop", "normalize")
    transform = build_transform(cfg, is_train=True)
    sample = DatasetWrapper(cfg, items, transform, is_train=True)[0]
    assert {"img", "img0"} <= set(sample) and "img2" not in sample
    first, second = sample["img"]
    assert first.shape == second.shape == sample["img0"].shape == (3, 16, 16)
    assert not torch.equal(first, second)
    again = DatasetWrapper(cfg, items, transform, is_train=True)[0]
    assert torch.equal(sample["img0"], again["img0"])  # not augmented
    assert sample["img0"].min() < 0  # normalised
    test_sample = DatasetWrapper(cfg, items, transform, is_train=False)[0]
    assert test_sample["img"].shape == (3, 16, 16) and "img2" not in test_sample
    batch = next(iter(DataManager(cfg).train_loader_x))
    assert [view.shape for view in batch["img"]] == 2 * [(4, 3, 16, 16)]


def test_several_transforms(make_cfg):
    cfg = make_cfg()
    weak, strong = (
        build_transform(cfg, choices=c) for c in (["normalize"], ["cutout", "normalize"])
    )
    batch = next(iter(DataManager(cfg, custom_tfm_train=[weak, strong]).train_loader_x))
    assert batch["img"].shape == batch["img2"].shape
    assert not torch.equal(batch["img"], batch["img2"])
    cfg.DATALOADER.K_TRANSFORMS = 2
    batch = next(iter(DataManager(cfg, custom_tfm_train=[weak, strong]).train_loader_x))
    assert len(batch["img"]) == len(batch["img2"]) == 2 and "img3" not in batch


def test_building_loaders_leaves_the_generator_where_it_was(make_cfg):
    """So that a model built next starts as it does on upstream's engine."""
    cfg = make_cfg("DATASET.ALL_AS_UNLABELED", True)
    before = torch.get_rng_state()
    data = DataManager(cfg)
    assert torch.equal(before, torch.get_rng_state())
    assert data.train_loader_x.sampler.seed != data.train_loader_u.sampler.seed
    assert data.train_loader_x.sampler.seed == int(torch.randint(2**62, (1,)))


def test_views_need_a_transform(make_cfg, items):
    with pytest.raises(ValueError, match="K_TRANSFORMS is 2"):
        DatasetWrapper(make_cfg("DATALOADER.K_TRANSFORMS", 2), items, None, is_train=True)


def test_without_transform_images_stay_as_they_are(make_cfg, items):
    assert DatasetWrapper(make_cfg(), items)[0]["img"].size == (24, 20)
