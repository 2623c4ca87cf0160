"""CONTRIBUTING.md: its examples work, and what it and the tools name exists; CHANGELOG.md."""

import re
import sys
from importlib.util import find_spec

import pytest
import torch
import yaml

import datasets
import trainers
from dassl.data.datasets import DATASET_REGISTRY, build_dataset
from dassl.engine import TRAINER_REGISTRY
from run.config import default_config
from tests.helpers import feature_models, toy_run
from tests.helpers.toy_run import REPO
from tests.house.test_readme import commands
from tests.trainers import test_contract

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


@pytest.fixture
def text_offset(dropped, tmp_path, monkeypatch):
    """The example of a trainer, with its small.yaml."""
    dropped(trainers, "text_offset", block("python", "class TextOffset("))
    config = block("yaml", "TEXTOFFSET").replace("../..", str(REPO / "configs"))
    (tmp_path / "small.yaml").write_text(config)
    monkeypatch.setattr(toy_run, "variant", lambda name: tmp_path / "small.yaml")
    return "TextOffset"


def test_the_trainer_learns_and_can_be_loaded(text_offset, toy, tmp_path):
    for number, clip in enumerate(("narrow", "wide")):
        run = tmp_path / str(number)
        test_contract.test_training_moves_the_learner_and_nothing_else(text_offset, clip, toy, run)
    run = tmp_path / "files"
    test_contract.test_saved_keys_are_the_learners(text_offset, toy, run)
    test_contract.test_loads_onto_another_class_list(text_offset, toy, run / "again")


def test_the_trainer_takes_a_backbone_that_gives_features_alone(text_offset, toy, tmp_path):
    feature_models.write(tmp_path / "custom", "custom")
    opts = ("MODEL.BACKBONE.NAME", f"open_clip:{tmp_path / 'custom'}")
    trainer = toy_run.build(toy_run.command(toy, text_offset, tmp_path / "run", opts=opts))
    before = toy_run.state_of(trainer)["offset"]
    trainer.train()
    assert not torch.equal(before, toy_run.state_of(trainer)["offset"])
    assert not any(p.requires_grad for p in trainer.method.clip.parameters())


@pytest.mark.parametrize(
    "promise",
    [
        test_contract.test_evaluate_train_evaluate_equals_a_fresh_object,
        test_contract.test_one_seed_gives_one_result,
        test_contract.test_the_whole_command_leaves_a_record,
    ],
)
def test_the_trainer_keeps_the_contract(promise, text_offset, toy, tmp_path):
    promise(text_offset, toy, tmp_path)


@pytest.mark.parametrize("precision", ["fp32", "amp"])
def test_the_trainer_has_all_precisions_of_a_cpu(precision, text_offset, toy, tmp_path):
    test_contract.test_precisions_of_a_cpu(text_offset, precision, toy, tmp_path)


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
