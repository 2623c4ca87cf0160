"""CONTRIBUTING.md: its examples work, and what it and the tools name exists; CHANGELOG.md."""

import json
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml

import datasets
import trainers
from dassl.data.datasets import DATASET_REGISTRY, build_dataset
from dassl.engine import TRAINER_REGISTRY
from frozen_clip import reference
from frozen_clip.prompts import tokenize
from run.config import default_config
from tests.helpers import feature_models, toy_run
from tests.helpers.golden_files import Golden, clip
from tests.helpers.toy_run import REPO
from tests.house.test_readme import commands
from tools import methods_page, settings_table

TEXT = (REPO / "CONTRIBUTING.md").read_text()
QUOTED = re.findall(r"`([^`\n]+)`", TEXT)
EXAMPLES = ("text_offset", "TextOffset", "trees", "<method>")
CHANGES = (REPO / "CHANGELOG.md").read_text()


def block(kind: str, holds: str) -> str:
    """The one block of code with these words."""
    found = [b for b in re.findall(rf"```{kind}\n(.*?)```", TEXT, re.DOTALL) if holds in b]
    assert len(found) == 1
    return found[0]


@pytest.fixture
def dropped(tmp_path, monkeypatch):
    """`dropped(package, name, text)` puts a file into a package for one test."""
    default_config()  # ours stay
    for registry in (TRAINER_REGISTRY, DATASET_REGISTRY):
        monkeypatch.setattr(registry, "_objects", dict(registry._objects))
    modules = []

    def drop(package, name, text):
        folder = tmp_path / package.__name__
        folder.mkdir()
        (folder / f"{name}.py").write_text(text)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
        modules.append(f"{package.__name__}.{name}")
        default_config()

    yield drop
    for module in modules:
        sys.modules.pop(module, None)


def golden_text_offset(file: Path) -> None:
    """A golden file of the example, from plain maths on CLIP's own model."""
    given, model = Golden("baselines/coop_end_generic.npz"), clip().clip
    names, images, labels = given.meta["classnames"], given["in/images"], given["in/labels"]
    how = {"name": "SGD", "lr": 0.002, "momentum": 0.9, "schedule": "constant", "steps": 6}
    meta = {"trainer": "TextOffset", "options": {"LENGTH": 2.0}, "classnames": names}
    meta |= {"template": "a photo of a {}.", "optimizer": how}
    ids = tokenize([f"a photo of a {name.replace('_', ' ')}." for name in names])
    offset = torch.nn.Parameter(torch.linspace(-0.01, 0.01, clip().embed_dim))

    def logits() -> torch.Tensor:
        f = F.normalize(reference.vision(model, images, {})[:, 0] @ model.visual.proj, dim=-1)
        w = F.normalize(F.normalize(reference.text(model, ids, {}), dim=-1) + 2 * offset, dim=-1)
        return model.logit_scale.exp() * f @ w.T

    def loss() -> torch.Tensor:
        return F.cross_entropy(logits(), labels)

    (gradient,) = torch.autograd.grad(loss(), offset)
    content = {"in/images": images, "in/labels": labels, "in/token_ids": ids, "out/loss": loss()}
    content |= {"out/logits": logits(), "grad/text_encoder.offset": gradient}
    content["param/text_encoder.offset"] = offset.detach().clone()
    optimizer, losses = torch.optim.SGD([offset], lr=0.002, momentum=0.9), []
    for _ in range(6):
        optimizer.zero_grad()
        losses.append(loss())
        losses[-1].backward()
        optimizer.step()
    content |= {"traj/losses": torch.stack(losses), "eval6/logits": logits()}
    content["after6/text_encoder.offset"] = offset
    arrays = {name: tensor.detach().numpy() for name, tensor in content.items()}
    np.savez(file, **arrays, **{"meta/json": json.dumps(meta)})


def test_a_method_is_four_files(tmp_path):
    """In a copy of the tree: contract, golden numbers and published checkpoints find it."""
    copy = tmp_path / "copy"
    listed = ["git", "ls-files", "-co", "--exclude-standard"]
    files = subprocess.run(listed, cwd=REPO, capture_output=True, text=True, check=True)
    for name in files.stdout.splitlines():
        if (REPO / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPO / name, copy / name)
    (copy / "trainers/text_offset.py").write_text(block("python", "class TextOffset("))
    (copy / "configs/trainers/TextOffset").mkdir()
    (copy / "configs/trainers/TextOffset/small.yaml").write_text(block("yaml", "TEXTOFFSET"))
    (copy / "trainers/published/TextOffset.yaml").write_text(block("yaml", "text_encoder.offset"))
    golden_text_offset(copy / "tests/golden/baselines/text_offset.npz")
    tests = [
        f"tests/trainers/test_{name}.py" for name in ("contract", "golden", "public_checkpoints")
    ]
    battery = [sys.executable, "-m", "pytest", "-q", "-k", "TextOffset or text_offset", *tests]
    done = subprocess.run(battery, cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 20


def test_the_method_takes_a_backbone_that_gives_features_alone(dropped, toy, tmp_path, monkeypatch):
    dropped(trainers, "text_offset", block("python", "class TextOffset("))
    config = block("yaml", "TEXTOFFSET").replace("../..", str(REPO / "configs"))
    (tmp_path / "small.yaml").write_text(config)
    monkeypatch.setattr(toy_run, "variant", lambda name: tmp_path / "small.yaml")
    feature_models.write(tmp_path / "custom", "custom")
    opts = ("MODEL.BACKBONE.NAME", f"open_clip:{tmp_path / 'custom'}")
    trainer = toy_run.build(toy_run.command(toy, "TextOffset", tmp_path / "run", opts=opts))
    before = toy_run.state_of(trainer)["offset"]
    trainer.train()
    assert not torch.equal(before, toy_run.state_of(trainer)["offset"])
    assert not any(p.requires_grad for p in trainer.method.clip.parameters())


def test_the_page_of_settings_is_that_of_the_dataclasses():
    assert (REPO / "docs" / "settings.md").read_text() == settings_table.page()


@pytest.mark.slow
def test_the_page_of_methods_is_that_of_the_code():
    assert (REPO / "docs" / "methods.md").read_text() == methods_page.page()


def test_the_data_set(dropped, tmp_path):
    dropped(datasets, "trees", block("python", "class Trees("))
    for species in ("ash", "elm", "fir", "oak"):
        for number in range(10):
            file = tmp_path / "data" / "trees" / "images" / species / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    cfg = default_config()
    cfg.DATASET.ROOT, cfg.DATASET.SUBSAMPLE_CLASSES = str(tmp_path / "data"), "base"
    cfg.merge_from_list(["DATASET.NUM_SHOTS", 2, "DATASET.NAME", "Trees", "SEED", 1])
    made = build_dataset(cfg)
    assert made.classnames == ["ash", "elm"] and made.template.startswith("a photo of a {}")
    assert len(made.train_x) == 4 and len(made.test) == 6
    assert (tmp_path / "data" / "trees" / "split_trees.json").is_file()


# What is named exists


def targets(text: str) -> set[str]:
    """What `make` is asked for: in indented lines, quoted, or at the start of a line."""
    lines = [*commands(text), *re.findall(r"`([^`\n]+)`", text), *text.splitlines()]
    made = [line.partition("#")[0].split()[1:] for line in lines if line.startswith("make ")]
    return {word for words in made for word in words}


@pytest.mark.parametrize("file", ["CONTRIBUTING.md", ".ci/run"])
def test_every_target_is_in_the_makefile(file):
    named = targets((REPO / file).read_text())
    rules = re.findall(r"^([a-z-]+):", (REPO / "Makefile").read_text(), re.MULTILINE)
    assert {"lint", "types"} <= named <= set(rules)


def test_every_target_is_explained_and_phony():
    makefile = (REPO / "Makefile").read_text()
    rules = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    assert rules == set(re.findall(r"^([a-z-]+):.*## \w", makefile, re.MULTILINE))
    assert rules == set(re.search(r"^\.PHONY: (.*)", makefile, re.MULTILINE)[1].split())


def test_hooks_are_our_own_commands():
    (repo,) = yaml.safe_load((REPO / ".pre-commit-config.yaml").read_text())["repos"]
    assert repo["repo"] == "local"
    assert {hook["language"] for hook in repo["hooks"]} == {"system"}
    asked = {word for hook in repo["hooks"] for word in targets(hook["entry"])}
    assert asked == {"lint", "types"}


def test_every_file_is_there():
    names = [q for q in QUOTED if re.fullmatch(r"[\w.-]+/[\w./-]*|[\w-]+\.(md|txt)", q)]
    ours = [name for name in names if not any(example in name for example in EXAMPLES)]
    places = (REPO, REPO / "tests" / "golden")
    gone = {name for name in ours if not any((place / name).exists() for place in places)}
    assert len(ours) > 20 and gone == {"log.txt", "meta/json"}  # of a run; in a file


def test_every_module_is_there():
    modules = re.findall(r"python -m ([\w.]+)", TEXT)
    assert "pytest" in modules and all(find_spec(module) for module in modules)


def test_tolerances_are_those_of_the_tests():
    from tests.helpers.golden_files import LOGITS, REST

    said = re.search(r"Tests allow (\S+) for logits and (\S+) for the rest", TEXT)
    assert (float(said[1]), float(said[2])) == (LOGITS, REST)


def test_every_state_of_the_changelog_tells_of_numbers():
    states = CHANGES.split("\n## ")[1:]
    assert states and all("\n### Numbers\n" in state for state in states)


def test_the_changelog_knows_the_engines_version():
    project = (REPO / "packages" / "dassl" / "pyproject.toml").read_text()
    version = re.search(r'^version = "(.+)"', project, re.MULTILINE)[1]
    assert f"is {version} throughout" in CHANGES
