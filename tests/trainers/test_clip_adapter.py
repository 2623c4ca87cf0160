"""CLIP-Adapter: its start, and what it takes."""

import pytest
import torch

import train
from run.config import default_config
from tests.helpers import feature_models
from tests.helpers.golden_files import REST, Golden, assert_close, clip
from tests.helpers.toy_run import build, classify, command, state_of
from training.feature_adapter import FeatureAdapter
from training.method import normalize


def test_features_of_the_frozen_clip():
    default_config()  # registers the trainers
    golden = Golden("baselines/clip_adapter.npz")
    method = golden.method()
    assert_close(method.w0, normalize(golden["out/zs_text_features"]), REST)
    assert_close(clip().encode_image(golden["in/images"]), golden["out/zs_image_features"], REST)


def test_it_starts_as_torchs_own_layers_do():
    torch.manual_seed(1)
    adapter = FeatureAdapter(64, 0.2)
    torch.manual_seed(1)
    for ours, shape in ((adapter.down, (64, 16)), (adapter.up, (16, 64))):
        assert torch.equal(ours.weight, torch.nn.Linear(*shape, bias=False).weight)


def test_the_length_of_what_it_reads_makes_no_difference_to_what_is_normalized():
    adapter, x = FeatureAdapter(64, 0.3).double(), torch.randn(5, 64, dtype=torch.double)
    assert_close(normalize(adapter(7 * x)), normalize(adapter(x)), 1e-6)
    assert not torch.allclose(normalize(adapter(x)), normalize(x), atol=1e-3)


@pytest.mark.parametrize("reduction", ["33", "0"])
def test_a_net_needs_a_hidden_unit(reduction, toy, tmp_path):
    opts = ("TRAINER.CLIPADAPTER.REDUCTION", reduction, "DATASET.ROOT", "nowhere")
    message = rf"REDUCTION is {reduction}.* 1 to (32|1,024)"
    with pytest.raises(ValueError, match=message):
        build(command(toy, "CLIP_Adapter", tmp_path, opts=opts))


def test_a_run_with_another_ratio_is_refused(toy, tmp_path):
    assert train.main(command(toy, "CLIP_Adapter", tmp_path)) == 0
    opts = ("TRAINER.CLIPADAPTER.RATIO", "0.5")
    with pytest.raises(ValueError, match=r"RATIO is 0.5, trained with 0.2"):
        build(command(toy, "CLIP_Adapter", tmp_path / "b", opts=opts)).load_model(str(tmp_path))


def test_a_backbone_that_gives_features_alone(toy, tmp_path):
    feature_models.write(tmp_path / "model", "custom")
    opts = ("MODEL.BACKBONE.NAME", f"open_clip:{tmp_path / 'model'}")
    trainer = build(command(toy, "CLIP_Adapter", tmp_path / "run", opts=opts))
    before = state_of(trainer)
    trainer.train()
    assert not torch.equal(before["up.weight"], state_of(trainer)["up.weight"])
    assert classify(trainer).isfinite().all()
