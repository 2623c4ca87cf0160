"""Settings of every method for other backbones than ViT-B/16, and how they count layers."""

from functools import cache
from types import SimpleNamespace

import pytest
import torch

from common.config_files import read_config
from dassl.engine import TRAINER_REGISTRY
from frozen_clip import FrozenCLIP, reference
from run.flat import flatten
from tests.helpers.toy_run import REPO, build, command, config
from tools.sweep.protocols import known_methods
from tools.sweep.protocols import variant as published
from trainers import mmrl, mmrl_plus

FOLDER = REPO / "configs" / "trainers"
# name of the YAML: of OpenAI; widths of vision and text, joint space, layers, pixels
BACKBONES = {
    "vit_b32": ("ViT-B/32", 768, 512, 512, (12, 12), 224),
    "vit_l14": ("ViT-L/14", 1024, 768, 768, (24, 12), 224),
    "vit_l14_336": ("ViT-L/14@336px", 1024, 768, 768, (24, 12), 336),
}
UPPER = [-7, -6, -5, -4, -3, -2, -1]


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("method", known_methods())
def test_yaml_differs_from_that_of_vit_b16_in_the_backbone_alone(method, backbone):
    name, *_, pixels = BACKBONES[backbone]
    file = FOLDER / method / f"{backbone}.yaml"
    original = file.with_name(f"{published(method)}.yaml")
    ours, theirs = (dict(flatten(read_config(f))) for f in (file, original))
    differ = {key: value for key, value in ours.items() if theirs[key] != value}
    assert ours.keys() == theirs.keys()
    assert differ.pop("MODEL.BACKBONE.NAME") == name
    assert differ.pop("INPUT.SIZE", [224, 224]) == [pixels, pixels]
    assert all(key.endswith(".REP_LAYERS") and value == UPPER for key, value in differ.items())
    config("--trainer", method, "--config-file", str(file))


@cache
def deep() -> FrozenCLIP:
    """A CLIP whose towers have other depths, as those of ViT-L/14."""
    return FrozenCLIP(reference.random_clip(layers=(6, 3)), "deep")


@pytest.mark.parametrize("cls", [mmrl.MMRLMethod, mmrl_plus.MMRLPlusMethod])
def test_layers_from_the_top_are_each_towers_own(cls):
    clip = deep()
    method = cls(cls.Settings(rep_layers=(-2, -1)), clip, ["cat"], "{}")
    tokens = torch.randn(2, 3, 64)
    assert list(method.edits(tokens, clip.vision)) == [5, 6]
    assert list(method.edits(tokens, clip.text)) == [2, 3]


def test_a_run_with_layers_from_the_top_is_that_with_their_numbers(toy, tmp_path):
    found = []
    for layers in ("[2, 3]", "[-2, -1]"):  # of towers with 3 and 4 layers
        opts = ("TRAINER.MMRL.REP_LAYERS", layers)
        trainer = build(command(toy, "MMRL", tmp_path, clip="wide", opts=opts))
        clip = trainer.method.clip
        tokens = torch.zeros(2, 5, clip.text.width)
        found.append([list(trainer.method.edits(tokens, t)) for t in (clip.vision, clip.text)])
    assert found == [[[2, 3], [2, 3]], [[2, 3], [3, 4]]]


@pytest.mark.parametrize("layers", [[2, 3], [-4, -1], [-1, -2], [-2, 3], [0], []])
def test_towers_of_other_depths_are_counted_from_the_top(layers):
    with pytest.raises(ValueError, match=r"REP_LAYERS is .*allowed for deep.*(from -3 to -1|1 to)"):
        mmrl.check_rep_layers(layers, deep(), "TRAINER.MMRL.REP_LAYERS")
    mmrl.check_rep_layers([-3, -1], deep(), "TRAINER.MMRL.REP_LAYERS")


# The table of the docs


METHODS = {  # in the docs: trainers
    "MMRL": "MMRL",
    "MMRL++": "MMRLPlus",
    "CoOp": "CoOp",
    "CoCoOp": "CoCoOp",
    "MaPLe": "MaPLe",
    "IVLP, PromptSRC": "PromptSRC",
    "VPT": "VPT",
}


def counts(vision: int, text: int, embed: int) -> dict[str, int]:
    """What each method trains with the settings of its YAML file for ViT-B/32."""
    words = SimpleNamespace(width=text, words=lambda ids: torch.zeros(len(ids), text))
    widths = {"text": words, "vision": SimpleNamespace(width=vision), "embed_dim": embed}
    clip = SimpleNamespace(**widths, device="cpu")
    found = {}
    for name, trainer in METHODS.items():
        file = FOLDER / trainer / "vit_b32.yaml"
        cfg, _ = config("--trainer", trainer, "--config-file", str(file))
        cls = TRAINER_REGISTRY.get(trainer)
        learner = cls.Method.Learner(cls.settings_of(cfg), clip)
        found[name] = sum(p.numel() for p in learner.parameters())
    return found


def test_parameters_in_the_docs():
    """Run with -s, this prints the table."""
    columns = {
        "ViT-B/32, ViT-B/16": counts(768, 512, 512),
        "ViT-L/14, @336px": counts(1024, 768, 768),
    }
    lines = [f"| method | {' | '.join(columns)} |", "|---|---:|---:|"]
    for name in counts(768, 512, 512):
        cells = " | ".join(f"{column[name]:,}" for column in columns.values())
        lines.append(f"| {name} | {cells} |")
    table = "\n".join(lines)
    print(table)
    assert table in (REPO / "docs" / "weights.md").read_text()
