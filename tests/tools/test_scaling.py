"""The arithmetic of what the whole benchmark costs, against sums made by hand."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from tools.benchmark import scaling
from tools.benchmark.scaling import Speed, Work, fitted, makespan, plans_of, table, work_of
from tools.sweep.protocols import Request, Run, expand


def works(protocol, method, dataset, **options):
    request = Request(protocol, [method], Path("o"), Path("d"), [dataset], [1], **options)
    return [work_of(run) for run in expand(request)]


def test_base_to_new_is_counted():
    # EuroSAT: 10 classes, 8100 test images; 10 epochs of 5 classes x 16 images in batches of 4
    assert works("base2new", "MMRL", "eurosat") == [Work(200, 4, 5, 4050), Work(0, 0, 5, 4050)]
    # pets: 37 classes, 19 of them base, 3669 test images; 304 images in batches of 4
    assert works("base2new", "MMRL", "oxford_pets") == [
        Work(760, 4, 19, round(3669 * 19 / 37)),
        Work(0, 0, 18, round(3669 * 18 / 37)),
    ]


def test_few_shot_is_counted():
    # 50 epochs in batches of 32 of 10 classes; fewer than 32 images are one batch
    steps = [50 * max(1, 10 * shots // 32) for shots in (1, 2, 4, 8, 16)]
    assert [work.steps for work in works("few_shot", "MMRL", "eurosat")] == steps
    assert {(work.classes, work.images) for work in works("few_shot", "MMRL", "eurosat")} == {
        (10, 8100)
    }


def test_cross_dataset_is_counted():
    source, target = works("cross_dataset", "MMRL", "imagenet_a")
    assert source == Work(16_000 // 32, 32, 1000, 50_000) and target == Work(0, 0, 200, 7500)


def test_the_fit_gives_back_what_it_was_made_of():
    sizes = [(10, 4), (50, 4), (100, 8), (1000, 32)]
    record = [
        {"method": "MMRL", "precision": "fp32", "classes": classes, "batch": batch}
        | {"ours": {"step": 0.2 + 0.003 * classes + 0.05 * batch, "images": 7.0}}
        for classes, batch in sizes
    ]
    speed = fitted(record, "MMRL", "fp32")
    assert np.allclose(speed.step, [0.2, 0.003, 0.05]) and speed.images == 7.0
    assert speed.seconds(Work(10, 4, 50, 70)) == pytest.approx((10 * 0.55, 10.0, 0.0))
    assert fitted(record[:3], "MMRL", "fp32") is None
    assert fitted(record, "MMRLPlus", "fp32") is None


def test_devices_work_side_by_side_and_tests_wait():
    runs = [Run("a", ()), Run("b", ()), Run("t", (), "a"), Run("c", ())]
    seconds = {"a": 5.0, "b": 1.0, "t": 2.0, "c": 1.0}
    assert makespan(runs, seconds, 1) == 9
    assert makespan(runs, seconds, 2) == 7  # a, then t
    assert makespan(runs, seconds, 9) == 7
    # never faster than the work or the longest chain allow
    for count, order in itertools.product((1, 2, 3), itertools.permutations(runs[:3])):
        if [run.directory for run in order].index("t") > [run.directory for run in order].index(
            "a"
        ):
            assert makespan(order, seconds, count) >= max(7, 8 / count)


def test_the_table_sums_up():
    plans = plans_of("MMRL")
    assert [len(runs) for runs in plans.values()] == [66, 165, 45, 276]
    speed = Speed(np.array([0.1, 0.0, 0.0]), images=100.0, start=10.0)
    lines = table(plans, speed, [1, 8], overhead=3.6).splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]
    counts = [[int(cell.replace(",", "")) for cell in row[1:4]] for row in cells]
    assert [sum(column) for column in zip(*counts[:3], strict=True)] == counts[3]
    _, steps, images = counts[3]
    hours = [steps * 0.1 / 3600, images / 100 / 3600, 276 * 10 / 3600, 276 * 3.6 / 3600]
    assert [float(cell) for cell in cells[3][4:8]] == pytest.approx(hours, rel=0.01)
    assert float(cells[3][8]) == pytest.approx(sum(hours) / 24, rel=0.01)


def test_the_scheduler_is_measured_on_a_real_sweep():
    swept, plain = scaling.measure_scheduler(4, 2)
    assert swept > 0 and plain > 0


def test_too_few_measurements_are_refused(tmp_path, capsys):
    file = tmp_path / "steps.json"
    file.write_text("[]")
    assert scaling.main([str(file)]) == 2
    assert "fewer than four sizes" in capsys.readouterr().err
