"""Every transform name, and what the test transform does."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms as T

from dassl.config import get_cfg_default
from dassl.data.transforms import AVAI_CHOICES, INTERPOLATION_MODES, build_transform


@pytest.fixture
def cfg():
    cfg = get_cfg_default()
    cfg.INPUT.SIZE = (16, 16)
    cfg.INPUT.GB_K = 3
    return cfg


@pytest.fixture
def image():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 24, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("name", AVAI_CHOICES)
def test_each_name_gives_an_image_of_the_right_size(cfg, image, name):
    torch.manual_seed(0)
    transform = build_transform(cfg, is_train=True, choices=[name])
    outputs = [transform(image) for _ in range(8)]
    for output in outputs:
        assert output.shape == (3, 16, 16) and torch.isfinite(output).all()
    fixed = {"normalize", "instance_norm", "center_crop"}
    assert all(torch.equal(outputs[0], o) for o in outputs[1:]) == (name in fixed)
    plain = build_transform(cfg, is_train=True, choices=[])(image)
    assert not all(torch.equal(plain, output) for output in outputs)


def test_train_order_is_the_tables_not_the_configs(cfg):
    cfg.INPUT.TRANSFORMS = ("normalize", "random_flip", "random_resized_crop")
    steps = build_transform(cfg, is_train=True).transforms
    kinds = [T.RandomResizedCrop, T.RandomHorizontalFlip, T.ToTensor, T.Normalize]
    assert [type(step) for step in steps] == kinds
    assert steps[0].scale == (0.08, 1.0)
    assert steps[0].interpolation is INTERPOLATION_MODES["bilinear"]


def test_test_transform_resizes_the_smaller_edge_and_cuts_the_middle(cfg, image):
    cfg.INPUT.TRANSFORMS = ("random_resized_crop", "random_flip", "normalize")
    cfg.INPUT.INTERPOLATION = "bicubic"
    cfg.INPUT.SIZE = (12, 16)
    output = build_transform(cfg, is_train=False)(image)
    resized = T.Resize(16, interpolation=T.InterpolationMode.BICUBIC)(image)
    assert resized.size == (16, 26)
    expected = T.ToTensor()(T.CenterCrop((12, 16))(resized))
    expected = T.Normalize(cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD)(expected)
    assert torch.equal(output, expected)


def test_squash_brings_both_edges_to_the_size(cfg, image):
    cfg.INPUT.RESIZE, cfg.INPUT.SIZE = "squash", (12, 16)
    expected = T.ToTensor()(T.Resize((12, 16))(image))
    assert torch.equal(build_transform(cfg, is_train=False)(image), expected)
    assert torch.equal(build_transform(cfg, choices=["center_crop"])(image), expected)
    cfg.INPUT.RESIZE = "squeeze"
    with pytest.raises(ValueError, match=r"INPUT\.RESIZE"):
        build_transform(cfg, is_train=False)


def test_normalisation_is_only_done_if_asked_for(cfg, image):
    output = build_transform(cfg, is_train=False)(image)
    assert 0 <= output.min() and output.max() <= 1


def test_no_transform(cfg):
    cfg.INPUT.NO_TRANSFORM = True
    assert build_transform(cfg) is None


def test_unknown_names(cfg):
    with pytest.raises(ValueError, match="do you mean 'random_flip'"):
        build_transform(cfg, choices=["randomflip"])
    cfg.INPUT.INTERPOLATION = "cubic"
    with pytest.raises(ValueError, match=r"INPUT\.INTERPOLATION.*do you mean 'bicubic'"):
        build_transform(cfg, is_train=False)


def test_instance_norm_and_cutout_do_what_they_say(cfg, image):
    output = build_transform(cfg, is_train=False, choices=["instance_norm"])(image)
    assert torch.allclose(output.mean(dim=(1, 2)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(output.std(dim=(1, 2)), torch.ones(3), atol=1e-5)
    cfg.INPUT.CUTOUT_LEN = 4
    white = Image.new("RGB", (16, 16), (255, 255, 255))
    holes = (build_transform(cfg, choices=["cutout"])(white) == 0).all(dim=0)
    assert 4 <= int(holes.sum()) <= 16
