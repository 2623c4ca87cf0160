"""Registry, files, seeds, logs, meters."""

import ast
import errno
import io
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import dassl
from dassl.utils import (
    AverageMeter,
    Logger,
    MetricMeter,
    Registry,
    check_availability,
    check_isfile,
    collect_env_info,
    download_url,
    get_most_similar_str_to_a_from_b,
    listdir_nohidden,
    mkdir_if_missing,
    read_image,
    read_json,
    set_random_seed,
    setup_logger,
    tolist_if_not,
    write_json,
)


def test_registry():
    registry = Registry("FRUIT")

    @registry.register()
    class Apple:
        pass

    def pear():
        return "pear"

    assert registry.register(pear) is pear
    assert registry.get("Apple") is Apple and registry.get("pear") is pear
    assert registry.registered_names() == ["Apple", "pear"] and "pear" in registry
    for error in (KeyError, ValueError):
        with pytest.raises(error, match=r"FRUIT.*do you mean 'Apple'"):
            registry.get("aple")
    with pytest.raises(KeyError, match="already in the FRUIT registry"):
        registry.register(pear)
    registry.register(pear, force=True)


def test_names_that_may_be_taken_over():
    registry = Registry("FRUIT")
    first, second = (type("Apple", (), {}) for _ in range(2))
    registry.register(first)
    with registry.replacing(["Apple"]):
        registry.register(second)
        with pytest.raises(KeyError, match="already in"):  # once
            registry.register(first)
    assert registry.get("Apple") is second
    with pytest.raises(ZeroDivisionError), registry.replacing(["Apple"]):
        registry.register(first)
        1 / 0  # noqa: B018
    assert registry.get("Apple") is second
    with pytest.raises(KeyError, match="already in"):
        registry.register(first)


def test_check_availability_names_the_nearest():
    check_availability("b", ["a", "b"])
    with pytest.raises(ValueError, match=r"'CoOP'.*\['CoOp', 'MMRL'\].*do you mean 'CoOp'"):
        check_availability("CoOP", ["CoOp", "MMRL"])
    with pytest.raises(ValueError, match=r"expected one of \[\]$"):
        check_availability("x", [])
    assert get_most_similar_str_to_a_from_b("mmrlpp", ["MMRL++", "CoOp"]) == "MMRL++"


def test_files(tmp_path):
    write_json({"é": [1]}, tmp_path / "new" / "a.json")
    assert read_json(tmp_path / "new" / "a.json") == {"é": [1]}
    for name in ("b", ".hidden", "a"):
        (tmp_path / "new" / name).touch()
    mkdir_if_missing(tmp_path / "new")
    assert sorted(listdir_nohidden(tmp_path / "new")) == ["a", "a.json", "b"]
    assert listdir_nohidden(str(tmp_path / "new"), sort=True) == ["a", "a.json", "b"]
    assert check_isfile(tmp_path / "new" / "a")
    with pytest.warns(UserWarning, match="No file found"):
        assert not check_isfile(str(tmp_path / "c"))
    assert tolist_if_not("x") == ["x"] and tolist_if_not(["x"]) == ["x"]


def test_read_image(tmp_path):
    Image.new("L", (5, 4), 7).save(tmp_path / "grey.png")
    image = read_image(tmp_path / "grey.png")
    assert (image.mode, image.size, image.getpixel((0, 0))) == ("RGB", (5, 4), (7, 7, 7))
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        read_image(str(tmp_path / "none.png"))


def test_read_image_with_transparent_palette_does_not_warn(tmp_path):
    image = Image.new("P", (4, 4))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.save(tmp_path / "p.png", transparency=b"\x00\x80")
    assert read_image(tmp_path / "p.png").getpixel((0, 0)) == (10, 20, 30)


@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_a_damaged_image_is_named(tmp_path, damage):
    path = tmp_path / "broken.jpg"
    Image.effect_noise((64, 64), 50).save(path)
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[: len(whole) // 2], "text": b"<html>", "empty": b""}[damage])
    with pytest.raises(OSError, match=r"broken\.jpg.*damaged"):
        read_image(path)


def test_set_random_seed_seeds_all():
    def draw():
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    set_random_seed(7)
    first = draw()
    assert draw() != first
    set_random_seed(7)
    assert draw() == first


def test_collect_env_info():
    info = collect_env_info()
    assert f"PyTorch: {torch.__version__}" in info and "GPUs:" in info


def test_download_url(tmp_path, capfd):
    source = tmp_path / "source.bin"
    source.write_bytes(b"abc" * 999)
    download_url(source.as_uri(), tmp_path / "deep" / "target.bin")
    assert (tmp_path / "deep" / "target.bin").read_bytes() == source.read_bytes()
    with pytest.raises(OSError, match=r"Fetch it by hand and put it at .*none\.bin"):
        download_url((tmp_path / "missing").as_uri(), tmp_path / "none.bin")
    assert sorted(path.name for path in tmp_path.rglob("*.bin*")) == ["source.bin", "target.bin"]
    assert "%" not in capfd.readouterr().out


def test_logs_can_be_read_without_torch():
    code = (
        "import sys, dassl.utils\nassert not {'torch', 'numpy', 'PIL', 'tqdm'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)


def test_nothing_rarely_used_is_imported_with_the_engine():
    """At the top of modules, that is: functions import what only they need."""
    allowed = {"dassl", "torch", "torchvision", "numpy", "PIL", "yacs", "tqdm", "tabulate"}
    files = sorted(Path(dassl.__file__).parent.rglob("*.py"))
    assert len(files) > 30
    for file in files:
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules = [node.module]
            else:
                continue
            for module in modules:
                assert module.split(".")[0] in allowed | sys.stdlib_module_names, (file, module)
                assert module != "torch.utils.tensorboard", file


@pytest.fixture
def redirect(monkeypatch):
    """Return a function that puts a stream, which it returns, in place of stdout."""

    def run():
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stdout", stream)
        return stream

    return run


def test_logger_tees_and_gives_stdout_back(tmp_path, redirect):
    console = redirect()
    logger = setup_logger(tmp_path / "run")
    print("one")
    assert (tmp_path / "run" / "log.txt").read_text() == "one\n"  # at once: a kill loses nothing
    assert not sys.stdout.isatty()
    logger.close()
    assert sys.stdout is console
    print("two")
    assert console.getvalue() == "one\ntwo\n"
    assert (tmp_path / "run" / "log.txt").read_text() == "one\n"
    assert setup_logger(None) is None and sys.stdout is console


def test_an_existing_log_is_kept(tmp_path, redirect):
    redirect()
    for text in ("first", "second", "third"):
        with setup_logger(tmp_path):
            print(text)
    assert (tmp_path / "log.txt").read_text() == "first\n"
    others = sorted(path for path in tmp_path.iterdir() if path.name.startswith("log.txt-"))
    assert sorted(path.read_text() for path in others) == ["second\n", "third\n"]


def test_a_second_run_does_not_write_into_the_firsts_log(tmp_path, redirect):
    console = redirect()
    setup_logger(tmp_path / "one")
    print("first")
    second = setup_logger(tmp_path / "two" / "mine.log")
    print("second")
    second.close()
    assert (tmp_path / "one" / "log.txt").read_text() == "first\n"
    assert (tmp_path / "two" / "mine.log").read_text() == "second\n"
    assert sys.stdout is console


def test_logger_on_its_own(tmp_path, redirect):
    console = redirect()
    with Logger(tmp_path / "a.txt") as logger:
        assert logger.write("abc") == 3
        logger.flush()
    assert (tmp_path / "a.txt").read_text() == console.getvalue() == "abc"


@pytest.mark.parametrize(
    ("encoding", "shown"), [("ascii", "\\u6728 \\xb1"), ("latin-1", "\\u6728 ±")]
)
def test_what_a_console_cannot_show_is_escaped(encoding, shown, tmp_path):
    console = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    with Logger(tmp_path / "a.txt", console) as logger:
        print("木 ±", file=logger)
        print("name\udcff", file=logger)  # of a file that is not UTF-8
    console.flush()
    assert console.buffer.getvalue() == f"{shown}\nname\\udcff\n".encode(encoding)
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "木 ±\nname\\udcff\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux")
def test_a_full_disk_stops_no_printing():
    console = io.StringIO()
    with Logger("/dev/full", console) as logger:
        print("one", file=logger)
        print("two", file=logger, flush=True)
    assert console.getvalue().replace("\n", " ").split()[0] == "one"
    assert console.getvalue().count("/dev/full lacks what follows") == 1
    assert console.getvalue().endswith("two\n")


def test_average_meter():
    meter = AverageMeter()
    meter.update(1.0)
    meter.update(torch.tensor([4.0]), n=2)
    meter.update(np.float32(3))
    assert (meter.val, meter.sum, meter.count, meter.avg) == (3.0, 12.0, 4, 3.0)
    meter.reset()
    assert (meter.avg, meter.count) == (0.0, 0)
    moving = AverageMeter(ema=True)
    moving.update(1.0)
    moving.update(2.0)
    assert moving.avg == pytest.approx(0.9 * 0.1 + 0.2)


def test_metric_meter_prints_value_and_mean():
    meter = MetricMeter()
    loss = torch.tensor(1.0, requires_grad=True)
    meter.update({"loss": loss * 2, "acc": 50})
    meter.update({"loss": loss, "acc": 100.0})
    meter.update(None)
    assert str(meter) == "loss 1.0000 (1.5000) acc 100.0000 (75.0000)"
    with pytest.raises(TypeError, match="dict of scalars, but got float"):
        meter.update(1.0)
    with pytest.raises(TypeError, match=r"'loss' is not a single number.*\(2,\)"):
        meter.update({"loss": torch.ones(2)})


class DeviceTensor(torch.Tensor):
    """Claims to live on a GPU, and counts how often it is waited for."""

    waits = 0

    @property
    def device(self):
        return torch.device("cuda")

    def __float__(self):
        DeviceTensor.waits += 1
        return super().__float__()

    def item(self):
        DeviceTensor.waits += 1
        return super().item()


def test_values_on_a_device_are_not_read_before_they_are_wanted():
    meter = MetricMeter()
    value = torch.tensor(0.1).as_subclass(DeviceTensor)
    for _ in range(10):
        meter.update({"loss": value})
    value.fill_(5.0)  # what was taken in is a copy
    assert DeviceTensor.waits == 0
    assert meter.meters["loss"].avg == pytest.approx(float(torch.tensor(0.1)), rel=1e-12)
    assert meter.meters["loss"].val == pytest.approx(0.1)
    assert DeviceTensor.waits > 0


def test_nothing_is_suggested_where_nothing_was_asked_for():
    with pytest.raises(ValueError, match=r"Unknown trainer '': expected one of \['CoOp'\]$"):
        check_availability("", ["CoOp"], what="trainer")


def test_a_log_goes_on_without_a_console(tmp_path, monkeypatch):
    """As when a terminal is closed, or what was piped to has read enough."""

    class Gone(io.StringIO):
        def write(self, text):
            raise OSError(errno.EIO, "Input/output error")

        flush = write

    monkeypatch.setattr(sys, "stdout", Gone())
    with Logger(tmp_path / "a.txt") as logger:
        print("one", file=logger)
        print("two", file=logger, flush=True)
    assert (tmp_path / "a.txt").read_text() == "one\ntwo\n"
