"""Export of a backbone that gives features alone.

Here, behind the tests that fork processes which train: an export starts threads that they must not
inherit.
"""

import json

import pytest

import train
from tests.frozen_clip.test_feature_backbones import prefer
from tests.helpers.feature_models import SQUASH, write
from tests.helpers.toy_run import command
from tools.predict.__main__ import main


@pytest.mark.slow
def test_an_export_computes_the_same_and_says_how_images_are_resized(toy, tmp_path):
    write(tmp_path / "siglip", "siglip", SQUASH)
    run, target = tmp_path / "run", tmp_path / "export"
    opts = prefer(tmp_path / "siglip")
    assert train.main(command(toy, "ZeroshotCLIP", run, opts=opts)) == 0
    assert main(["--model-dir", str(run), "--export", str(target)]) == 0  # which compares
    manifest = json.loads((target / "manifest.json").read_text())
    assert manifest["preprocess"]["resize"] == "squash"
