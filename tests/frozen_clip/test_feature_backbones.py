"""Backbones of open_clip that give features alone, of the kinds in `feature_models`."""

import json
import shutil
import sys

import numpy as np
import open_clip
import pytest
import torch
from huggingface_hub import constants as hub_constants
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

import frozen_clip
import train
from dassl.data.transforms import build_transform
from frozen_clip import feature_clip, weights_file, weights_hash
from frozen_clip.properties import Preprocessing
from frozen_clip.weights import open_clip as loader
from tests.frozen_clip.test_weights_formats import cache, put  # noqa: F401  (cache is a fixture)
from tests.helpers.feature_models import CONFIGS, SQUASH, write, write_tokenizer
from tests.helpers.toy_run import REPO, command, config, refused
from tools.predict import load
from training.method import cosine_logits, normalize

NAMES = ["red circle", "blue star"]
TEMPLATE = "a photo of a {}"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A directory of each kind, and open_clip's model that is in it."""
    folder = tmp_path_factory.mktemp("models")
    return {kind: (folder / kind, write(folder / kind, kind, SQUASH)) for kind in CONFIGS}


@pytest.fixture
def tiny(models, monkeypatch):
    """Three architectures that open_clip knows by name; a directory of the first."""
    known = open_clip.factory._MODEL_CONFIGS
    gelu = {**CONFIGS["plain"], "quick_gelu": False}
    configs = {"tiny-siglip": CONFIGS["siglip"], "tiny": CONFIGS["plain"], "tiny-gelu": gelu}
    for name, content in configs.items():
        monkeypatch.setitem(known, name, content)
    return models["siglip"][0]


def prefer(folder, *opts):
    """Options of a run of zero-shot CLIP with this model."""
    fitting = ("INPUT.SIZE", "[160, 160]", "INPUT.RESIZE", "squash", "DATASET.TEMPLATE", TEMPLATE)
    half = ("INPUT.PIXEL_MEAN", "[0.5, 0.5, 0.5]", "INPUT.PIXEL_STD", "[0.5, 0.5, 0.5]")
    return ("MODEL.BACKBONE.NAME", f"open_clip:{folder}", *fitting, *half, *opts)


# Features


@pytest.mark.parametrize("kind", CONFIGS)
def test_features_are_those_of_open_clip(models, kind):
    folder, model = models[kind]
    before = torch.get_rng_state()
    clip = frozen_clip.load(f"open_clip:{folder}")
    assert torch.equal(torch.get_rng_state(), before)
    prompts = clip.prompts(NAMES, TEMPLATE)
    images = torch.randn(3, 3, clip.image_size, clip.image_size)
    with torch.no_grad():
        w, f = model.encode_text(prompts.ids_CL), model.encode_image(images)
    assert torch.allclose(clip.encode_text(prompts), w, atol=1e-5)
    assert torch.allclose(clip.encode_image(images), f, atol=1e-5)
    assert w.shape == (2, clip.embed_dim) and not torch.allclose(w[0], w[1], atol=1e-3)
    assert clip.loaded.images == Preprocessing((0.5,) * 3, (0.5,) * 3, "bicubic", "squash")
    local = kind in ("siglip", "biomed")
    assert clip.origin["tokenizer"] == (str(folder) if local else "byte pairs")
    assert not clip.train().training and not any(p.requires_grad for p in clip.parameters())


def test_a_bias_changes_no_probability(models):
    folder, model = models["siglip"]
    clip = frozen_clip.load(f"open_clip:{folder}")
    prompts = clip.prompts(NAMES, TEMPLATE)
    images = torch.randn(3, 3, clip.image_size, clip.image_size)
    with torch.no_grad():
        logits = model.get_logits(images, prompts.ids_CL)[0]
    f, w = normalize(clip.encode_image(images)), normalize(clip.encode_text(prompts))
    ours = cosine_logits(f, w, clip.scale)
    assert torch.allclose(ours - 10, logits, atol=1e-4) and clip.origin["logit_bias"] == -10
    assert torch.allclose(ours.softmax(dim=1), logits.softmax(dim=1), atol=1e-5)


def test_weights_by_architecture_and_path(tiny, tmp_path, monkeypatch):
    """Of a file, absolute or relative, and of a directory; the tokenizer lies beside."""
    file = tiny / "open_clip_model.safetensors"
    expected = frozen_clip.load(f"open_clip:{tiny}")
    monkeypatch.chdir(tiny)
    shutil.copytree(tiny, tmp_path / "x")
    state = {f"module.{key}": value for key, value in expected.clip.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "x" / "epoch_3.pt")
    for path in (file, file.name, tiny, tmp_path / "x/epoch_3.pt"):
        clip = frozen_clip.load(f"open_clip:tiny-siglip/{path}")
        assert clip.origin["architecture"] == "tiny-siglip"
        assert clip.clip.state_dict().keys() == expected.clip.state_dict().keys()
        for key, value in clip.clip.state_dict().items():
            assert torch.equal(value, expected.clip.state_dict()[key]), key
        prompts = [c.prompts(NAMES, TEMPLATE).ids_CL for c in (clip, expected)]
        assert torch.equal(*prompts)
    assert weights_file(f"open_clip:tiny-siglip/{file}") == file


def test_the_hash_is_of_all_that_features_depend_on(models, tiny, tmp_path):
    """Architectures whose tensors are alike compute other features; so do other tokenizers."""
    file = shutil.copy(models["plain"][0] / "open_clip_model.safetensors", tmp_path / "clip.pt")
    names = [f"open_clip:{name}/{file}" for name in ("tiny", "tiny-gelu")]
    assert weights_hash(names[0]) != weights_hash(names[1]) is not None
    images = torch.randn(1, 3, 32, 32)
    quick, other = (frozen_clip.load(name).encode_image(images) for name in names)
    assert not torch.allclose(quick, other, atol=1e-4)
    with pytest.raises(ValueError, match=r"quick_gelu True, and tiny-gelu has False: correct"):
        frozen_clip.load(f"open_clip:tiny-gelu/{models['plain'][0]}")
    place = shutil.copytree(tiny, tmp_path / "x")
    before = weights_hash(f"open_clip:{place}")
    (place / "tokenizer.json").write_text((place / "tokenizer.json").read_text().replace("a", "b"))
    assert weights_hash(f"open_clip:{place}") != before


def test_a_name_on_the_hub(cache):  # noqa: F811
    put(cache)
    clip = frozen_clip.load("open_clip:hf-hub:owner/clip")
    images = torch.randn(2, 3, 32, 32)
    ours = frozen_clip.load("hf-hub:owner/clip")
    assert torch.allclose(clip.encode_image(images), ours.encode_image(images), atol=1e-5)
    texts = [c.encode_text(c.prompts(NAMES, TEMPLATE)) for c in (clip, ours)]
    assert torch.allclose(*texts, atol=1e-5)


# Tokenizers


@pytest.mark.parametrize("name", ["EVA02-B-16", "PE-Core-B-16"])
def test_tokenizers_of_byte_pairs(name, tmp_path):
    place = loader.Place(name, tmp_path / "x.pt", None, None)
    text = open_clip.get_model_config(name)["text_cfg"]
    words = ["a photo of a Red  Circle.", "naïve: café"]
    ours = loader.tokenizer_of(text, place, name)(words)
    assert torch.equal(ours, open_clip.get_tokenizer(name)(words))
    assert ours.shape[1] == text["context_length"]


def test_prompts_that_are_alike_or_too_long(models):
    clip = frozen_clip.load(f"open_clip:{models['siglip'][0]}")
    assert clip.prompts(["Red circle!", "red_circle"], TEMPLATE).ids_CL.unique(dim=0).shape[0] == 1
    assert clip.prompts(["red " * 7], "{}").ids_CL.shape == (1, 8)  # and the end of text
    with pytest.raises(ValueError, match=r"has 9 tokens, CLIP reads at most 8; shorten"):
        clip.prompts(["red " * 8], "{}")
    clip = frozen_clip.load(f"open_clip:{models['custom'][0]}")
    assert clip.prompts(["red " * 14], "{}").ids_CL[0, -1] == 49407
    with pytest.raises(ValueError, match="has 17 tokens, CLIP reads at most 16; shorten"):
        clip.prompts(["red " * 15], "{}")
    with pytest.raises(ValueError, match=r"must hold '\{\}' once"):
        clip.prompts(["red"], "a photo")


def test_a_missing_tokenizer_says_where_to_put_it(tmp_path, monkeypatch):
    monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", True)
    write(tmp_path / "x", "siglip", tokenizer=False)
    with pytest.raises(OSError, match=r"tokenizer timm/no_such_siglip .*Put its files") as told:
        frozen_clip.load(f"open_clip:{tmp_path / 'x'}")
    assert str(tmp_path / "x" / "tokenizer") in str(told.value)
    write(tmp_path / "y", "siglip")
    (tmp_path / "x/tokenizer").mkdir()
    for file in (tmp_path / "y").glob("*token*"):
        shutil.copy(file, tmp_path / "x/tokenizer")
    assert frozen_clip.load(f"open_clip:{tmp_path / 'x'}").prompts(NAMES, TEMPLATE)


def test_code_beside_weights_is_not_run(tmp_path):
    """transformers would, of a directory that says so, where it is allowed to."""
    write(tmp_path, "biomed")
    code = f"open({str(tmp_path / 'owned')!r}, 'w')"
    for folder, file, kind in (
        (tmp_path, "tokenizer_config.json", "AutoTokenizer"),
        (tmp_path / "bert", "config.json", "AutoConfig"),
    ):
        (folder / "evil.py").write_text(code)
        said = json.loads((folder / file).read_text())
        whom = ["evil.Evil", None] if kind == "AutoTokenizer" else "evil.Evil"
        said |= {"auto_map": {kind: whom}, "model_type": "evil", "tokenizer_class": "Evil"}
        (folder / file).write_text(json.dumps(said))
        with pytest.raises((OSError, ValueError), match=r"custom code|could not be loaded"):
            frozen_clip.load(f"open_clip:{tmp_path}")
        if kind == "AutoTokenizer":
            write_tokenizer(tmp_path)
    assert not (tmp_path / "owned").exists()


def test_a_model_that_computes_no_features_is_refused(tmp_path, monkeypatch):
    write(tmp_path, "custom")
    monkeypatch.setattr(
        feature_clip.FeatureCLIP, "encode_image", lambda clip, images: images.flatten(1)
    )
    with pytest.raises(ValueError, match=r"no features of an image of 32 x 32 .* get both again"):
        frozen_clip.load(f"open_clip:{tmp_path}")


def test_a_missing_package_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(ValueError, match=r'pip install "open_clip_torch>=2.30,<4"'):
        frozen_clip.load(f"open_clip:ViT-B-16-SigLIP/{tmp_path}")
    needed = (REPO / "pyproject.toml").read_text()
    assert '"open_clip_torch>=2.30,<4"' in needed and '"transformers>=4.50,<6"' in needed


# Images


@pytest.mark.parametrize(
    ("name", "mean", "interpolation", "resize"),
    [
        ("ViT-B-16-SigLIP", 0.5, "bicubic", "squash"),
        ("ViT-B-16-SigLIP2-256", 0.5, "bicubic", "squash"),
        ("PE-Core-B-16", 0.5, "bilinear", "squash"),
        ("EVA02-B-16", 0.48145466, "bicubic", "shortest"),
    ],
)
def test_how_published_models_want_their_images(name, mean, interpolation, resize):
    place = loader.Place(name, REPO / "x.pt", None, None)
    images = loader.architecture_of(place, name)[1]
    assert images.mean[0] == mean
    assert (images.interpolation, images.resize) == (interpolation, resize)


@pytest.mark.parametrize("resize", ["squash", "shortest"])
def test_images_are_prepared_as_open_clip_does(resize, toy, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 80, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    cfg, _ = config(*command(toy, "ZeroshotCLIP", tmp_path, opts=("INPUT.RESIZE", resize)))
    node = cfg.INPUT
    theirs = PreprocessCfg(32, "RGB", node.PIXEL_MEAN, node.PIXEL_STD, "bicubic", resize)
    expected = image_transform_v2(theirs, is_train=False)(image)
    assert torch.equal(build_transform(cfg, is_train=False)(image), expected)


# Runs


def test_what_a_refusal_says_of_images_is_enough(models, toy, tmp_path, capsys):
    """One message has all that has to be set; then training, testing and prediction agree."""
    folder = models["siglip"][0]
    opts = ("MODEL.BACKBONE.NAME", f"open_clip:{folder}", "DATASET.TEMPLATE", TEMPLATE)
    told = refused(capsys, command(toy, "ZeroshotCLIP", tmp_path / "run", opts=opts))
    assert "INPUT.SIZE is [32, 32], but" in told and "takes images of 160 x 160: set " in told
    words = told.split(": set ")[1].strip().replace(" INPUT.", "|INPUT.").split("|")
    assert len(words) == 4
    opts += tuple(part.strip('"') for word in words for part in word.split(" ", 1))
    for part, flags in (("run", ()), ("again", ("--eval-only",))):
        assert train.main(command(toy, "ZeroshotCLIP", tmp_path / part, *flags, opts=opts)) == 0
    run, again = (
        json.loads((tmp_path / part / "results.json").read_text()) for part in ("run", "again")
    )
    assert run["accuracy"] == again["accuracy"] and run["weights_hash"] == again["weights_hash"]
    assert run["clip"]["images"]["resize"] == "squash" and len(run["clip"]["sha256"]) == 64
    assert run["clip"]["package"] == f"open_clip_torch {open_clip.__version__}"
    assert "RESIZE: squash" in (tmp_path / "run/config.yaml").read_text()
    first, kept = load(tmp_path / "run"), load(tmp_path / "run")
    assert torch.equal(first.text_features, kept.text_features)
    images = sorted((toy / "colored_shapes/images").glob("*/test_*.png"))
    base = [i for i in images if i.parent.name in ("red_circle", "red_square", "blue_circle")]
    right = sum(
        answer.name == image.parent.name.replace("_", " ")
        for image, (answer,) in zip(base, first(base, topk=1), strict=True)
    )
    assert len(base) == run["total"] == 9 and right == run["correct"]


@pytest.mark.parametrize(
    ("trainer", "node"), [("ZeroshotCLIP2", "ZEROSHOTCLIP"), ("TaskRes", "TaskRes")]
)
def test_half_precision_is_of_autocast_alone(trainer, node, models, toy, tmp_path):
    name = f"open_clip:{models['siglip'][0]}"
    opts = prefer(models["siglip"][0], f"TRAINER.{node}.PREC", "amp")
    assert train.main(command(toy, trainer, tmp_path, opts=opts)) == 0
    assert frozen_clip.load(name, matmul_dtype=torch.bfloat16).dtype == torch.float32
    with pytest.raises(ValueError, match="PREC fp16 must be amp or fp32"):
        frozen_clip.load(name, dtype=torch.float16)
