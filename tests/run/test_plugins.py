"""Plugins that were written for upstream Dassl and CoOp, in our folders or from elsewhere."""

import json
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import datasets
import train
import trainers
from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import build_trainer
from run.config import default_config, extend_cfg, own_part
from run.plugins import import_plugins
from tests.helpers.plugin_files import REGISTERED, forgotten, python, written  # noqa: F401
from tests.helpers.toy_run import REPO, variant
from tests.house.test_architecture import ENGINE, imports
from tools.flatten import flattened
from training.templates import DATASET_TEMPLATES, template_of

FOLDER = Path(__file__).parents[1] / "plugins"
TRAINER, DATASET, OTHERS = (FOLDER / f"{n}.py" for n in ("word_prompt", "tiles", "patches"))
NAMES = {"oak": "oak tree", "fir": "fir tree", "ash": "ash tree", "elm": "elm tree"}


@pytest.fixture(scope="module")
def tiles(toy):
    """The data root with the pictures of the plugin's data set: 7 of each class."""
    rng = np.random.default_rng(0)
    for shade, folder in enumerate(NAMES):
        for number in range(7):
            file = toy / "tiles" / "images" / folder / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.clip(rng.normal(60 * shade, 30, (32, 32, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(file)
    (toy / "tiles" / "names.json").write_text(json.dumps(NAMES))
    content = torch.load(toy / "narrow.pt", weights_only=True)
    torch.save(content["state_dict"], toy / "state.pt")  # what the plugin reads by itself
    return toy


pytestmark = pytest.mark.usefixtures("forgotten")


def command(tiles, output, *flags, trainer="WordPrompt", opts=()):
    clip = "state.pt" if trainer == "WordPrompt" else "narrow.pt"
    config = [] if trainer == "WordPrompt" else ["--config-file", str(variant(trainer))]
    small = ("INPUT.SIZE", "(32, 32)", "DATALOADER.NUM_WORKERS", "0", "OPTIM.MAX_EPOCH", "2")
    return [
        *("--root", str(tiles), "--output-dir", str(output), "--seed", "1", "--trainer", trainer),
        *(*config, "--backbone", str(tiles / clip), *flags, "DATASET.NAME", "Tiles"),
        *("DATASET.NUM_SHOTS", "2", "DATASET.SUBSAMPLE_CLASSES", "base", *small),
        *("DATALOADER.TRAIN_X.BATCH_SIZE", "2", "OPTIM.NAME", "sgd", "OPTIM.LR", "0.01", *opts),
    ]


def refused(capsys, arguments) -> str:
    assert train.main(arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") < 15
    return message


def given(*files) -> list[str]:
    return [word for file in files for word in ("--plugin", str(file))]


# They run


def test_the_plugins_use_every_name_of_the_api():
    used = {}
    for file in (TRAINER, DATASET, OTHERS):
        for module, names in imports(file):
            used.setdefault(module, set()).update(names)
    unused = {module: names - used.get(module, set()) for module, names in ENGINE.items()}
    assert not any(unused.values()), unused
    beyond = {m: n - ENGINE.get(m, set()) for m, n in used.items() if m.startswith("dassl")}
    assert not any(beyond.values()), beyond


@pytest.mark.filterwarnings("ignore")  # of what plugins of that age call
def test_dropped_into_the_folders(tiles, tmp_path, monkeypatch, capsys):
    for package, file in ((trainers, TRAINER), (datasets, DATASET)):
        folder = tmp_path / package.__name__
        folder.mkdir()
        shutil.copy(file, folder)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    run = tmp_path / "run"
    assert train.main(command(tiles, run)) == 0
    log = capsys.readouterr().out
    assert "LoudWrapper" in log and "epoch [2/2] batch [2/2]" in log
    record = json.loads((run / "results.json").read_text())
    assert record["complete"] and record["total"] == 2 and record["split"] == "test"
    assert f"* accuracy: {record['accuracy']:.1f}%" in log
    assert (tiles / "tiles" / "split_fewshot" / "shot_2-seed_1.pkl").is_file()
    assert "WORDPROMPT" in (run / "config.yaml").read_text()
    saved = torch.load(run / "prompt_learner" / "model.pth.tar-2", weights_only=True)
    assert saved["state_dict"].keys() == {"ctx", "token_prefix", "token_suffix"}
    flags = ("--eval-only", "--model-dir", str(run), "--load-epoch", "2")
    opts = ("DATASET.SUBSAMPLE_CLASSES", "new")
    assert train.main(command(tiles, tmp_path / "new", *flags, opts=opts)) == 0
    log = capsys.readouterr().out
    assert "(epoch 2)" in log and "epoch [" not in log
    assert json.loads((tmp_path / "new" / "results.json").read_text())["classes"] == "new"


def test_given_from_elsewhere(tiles, tmp_path):
    """In a process of its own, from another folder, with amp."""
    for file in (TRAINER, DATASET):
        shutil.copy(file, tmp_path)
    plugins = given("word_prompt.py", "tiles.py")
    run = tmp_path / "run"
    opts = ("TRAINER.WORDPROMPT.PREC", "amp", "USE_CUDA", "False")
    words = command(tiles, run, *plugins, opts=opts)
    python("import sys, train; sys.exit(train.main(sys.argv[1:]))", *words, cwd=tmp_path)
    assert json.loads((run / "results.json").read_text())["complete"]


@pytest.mark.filterwarnings("ignore")
def test_without_train_py(tiles, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # the plugin leaves its logger there
    *_, tiles_module, others = import_plugins([DATASET, OTHERS])
    output = tmp_path / "run"
    others.main(str(tiles), str(output))
    sys.stdout.close()
    log = (output / "log.txt").read_text()
    assert "loss_u" in log and "Whole run: loss_x" in log and "* total: 4" in log
    cfg = default_config()
    cfg.merge_from_list(["DATASET.NAME", "Tiles", "DATASET.ROOT", str(tiles)])
    assert set(tiles_module.classnames(cfg)) == set(NAMES.values())


@pytest.mark.filterwarnings("ignore")
def test_our_trainers_on_a_data_set_from_elsewhere(tiles, tmp_path, capsys):
    arguments = command(tiles, tmp_path / "a", *given(DATASET), trainer="ZeroshotCLIP")
    assert "set DATASET.TEMPLATE" in refused(capsys, arguments)
    for trainer in ("ZeroshotCLIP", "MMRL"):
        opts = ("DATASET.TEMPLATE", "a photo of an {}.", "TASK", "B2N")
        output = tmp_path / trainer
        assert train.main(command(tiles, output, *given(DATASET), trainer=trainer, opts=opts)) == 0


def test_a_plugin_is_loaded_once_and_finds_coops_way_to_the_weights():
    from clip import clip

    first, second = (import_plugins([DATASET])[-1] for _ in range(2))
    assert first is second and first.__name__.startswith("datasets.tiles_")
    assert clip._download.__defaults__ == (os.path.expanduser("~/.cache/clip"),)


def test_our_trainers_under_another_train_py(tiles, tmp_path):
    """What docs/PLUGINS.md says to write into the train.py of an upstream code base."""
    cfg = get_cfg_default()
    extend_cfg(cfg)
    cfg.merge_from_file(REPO / "configs/datasets/colored_shapes.yaml")
    (tmp_path / "flat.yaml").write_text(flattened(variant("MMRLPlus")))
    cfg.merge_from_file(tmp_path / "flat.yaml")
    cfg.merge_from_list(["DATASET.ROOT", str(tiles), "OUTPUT_DIR", str(tmp_path), "SEED", 1])
    cfg.merge_from_list(["TRAINER.NAME", "MMRLPlus", "TASK", "B2N", "DATASET.NUM_SHOTS", 1])
    cfg.merge_from_list(["MODEL.BACKBONE.NAME", str(tiles / "narrow.pt"), "OPTIM.MAX_EPOCH", 1])
    cfg.freeze()
    trainer = build_trainer(cfg)
    trainer.train()
    assert len(trainer.test_loader.dataset) == 18


# Their config


def test_keys_of_a_plugin(tmp_path):
    (tmp_path / "keys.py").write_text("def add_config(cfg):\n    cfg.TRAINER.COOP.W = 8.0\n")
    cfg = default_config([TRAINER, tmp_path / "keys.py"])
    assert cfg.TRAINER.WORDPROMPT.N_CTX == 4 and cfg.TRAINER.COOP.W == 8.0


def test_a_plugin_may_use_the_node_of_another(tmp_path):
    (tmp_path / "mine.py").write_text(REGISTERED.format("Mine"))
    cfg = default_config([tmp_path / "mine.py"])
    cfg.TRAINER.NAME = "Mine"
    assert "COOP" in own_part(cfg).TRAINER
    cfg.TRAINER.NAME = "CoOp"
    assert set(own_part(cfg).TRAINER) == {"NAME", "COOP"}


# What is wrong with them


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file"),
        ("", "a plugin must be a Python file"),
        ("x = 1\n", "registers nothing"),
        ("import torch\nimport no_such_package\n", "line 2 cannot be used: ModuleNotFound"),
        ("x = (\n", "line 1 cannot be used: SyntaxError"),
        ("def add_config(cfg):\n    cfg.TRAINER.NONE.W = 1\n", "line 2 cannot be used: Attribute"),
        ("import os\n\nopen('/no/file')\n", "line 3 cannot be used: FileNotFoundError"),
    ],
)
def test_a_plugin_that_cannot_be_used(content, message, tiles, tmp_path, capsys):
    file = tmp_path / ("bad.txt" if content == "" else "bad.py")
    if content is not None:
        file.write_text(content)
    shown = refused(capsys, command(tiles, tmp_path / "run", *given(file)))
    assert message in shown and str(file) in shown
    assert not (tmp_path / "run").exists()
    imported = any(name.startswith("trainers.bad") for name in sys.modules)
    assert imported == ("def add_config" in (content or ""))


@pytest.mark.parametrize("name", ["broken.py", "kit/__init__.py"])
def test_a_dropped_file_that_cannot_be_imported(name, tmp_path, monkeypatch):
    written(tmp_path, {name: "import no_such_package\n"})
    monkeypatch.setattr(trainers, "__path__", [*trainers.__path__, str(tmp_path)])
    with pytest.raises(ValueError, match=rf"{tmp_path / name}, line 1 cannot be used"):
        import_plugins()


# The sentence


def asked(name, given="", **attributes):
    cfg = SimpleNamespace(DATASET=SimpleNamespace(NAME=name, TEMPLATE=given))
    return template_of(SimpleNamespace(**attributes), cfg)


def test_where_the_sentence_comes_from():
    assert asked("Mine", "a {}.", template="the {}.") == "a {}."
    assert asked("EuroSAT", template="the {}.") == "the {}."
    assert asked("EuroSAT") == "a centered satellite photo of {}."
    with pytest.raises(ValueError, match=r"class names of Mine, and it has none: set DATASET"):
        asked("Mine")
    with pytest.raises(ValueError, match=r"'a photo' has not exactly one"):
        asked("EuroSAT", "a photo")


def test_the_table_of_sentences_is_that_of_the_data_sets():
    assert len(DATASET_TEMPLATES) == 15
    for name, sentence in DATASET_TEMPLATES.items():
        assert DATASET_REGISTRY.get(name).template == sentence
