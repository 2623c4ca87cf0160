"""Every format of weights gives the same CLIP; what a model says of itself is used and recorded."""

import json
import shutil

import huggingface_hub
import huggingface_hub.constants as hub_constants
import pytest
import torch
from huggingface_hub import errors
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel

import frozen_clip
import train
from frozen_clip import described, properties, reference
from frozen_clip.weights import hub
from frozen_clip.weights.state_dict import build
from tests.helpers.toy_run import REPO, command, refused
from tests.wrong.backbones import OPEN_CLIP
from tools.data.__main__ import main as data_tool
from tools.predict import load
from tools.predict.__main__ import main as predict

MODEL = reference.random_clip(layers=(2, 2), vision_width=128)
STATE = MODEL.state_dict()
CONFIG = {
    **OPEN_CLIP,
    "vision_cfg": {**OPEN_CLIP["vision_cfg"], "layers": 2, "width": 128},
    "text_cfg": {**OPEN_CLIP["text_cfg"], "layers": 2, "heads": 4},
}
COMMIT = "a" * 40


def open_clip(folder, weights="open_clip_model.safetensors", state=STATE, **change):
    folder.mkdir(exist_ok=True, parents=True)
    config = {"model_cfg": {**CONFIG, **change}, "preprocess_cfg": {"mean": [0.5, 0.5, 0.5]}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save = save_file if weights.endswith("safetensors") else torch.save
    save(state, folder / weights)
    return folder


def same(clip, activation, heads, state=STATE):
    assert clip.origin["activation"] == activation
    assert clip.origin["heads"] == dict(zip(("vision", "text"), heads, strict=True))
    own = clip.clip.state_dict()
    assert own.keys() == state.keys()
    assert all(torch.equal(own[key], value) for key, value in state.items())


@pytest.mark.parametrize(
    ("weights", "quick"),
    [("open_clip_model.safetensors", True), ("open_clip_pytorch_model.bin", False)],
)
def test_open_clip_directory_and_file(tmp_path, weights, quick):
    open_clip(tmp_path, weights, quick_gelu=quick)
    for place in (tmp_path, tmp_path / weights):
        same(frozen_clip.load(str(place)), "quick_gelu" if quick else "gelu", (2, 4))
    torch.save(STATE, tmp_path / "another.pt")  # the config is not of this file
    with pytest.raises(ValueError, match="does not say its activation"):
        frozen_clip.load(str(tmp_path / "another.pt"))


def test_open_clip_with_a_text_tower_of_its_own(tmp_path):
    kept = ("visual.", "logit_scale")
    state = {k if k.startswith(kept) else f"text.{k}": value for k, value in STATE.items()}
    open_clip(tmp_path, state=state, custom_text=True)
    same(frozen_clip.load(str(tmp_path)), "quick_gelu", (2, 4))


def test_the_user_says_it(tmp_path):
    """Of a checkpoint of open_clip's training."""
    state = {f"module.{key}": value for key, value in STATE.items()}
    torch.save({"epoch": 3, "name": "x", "state_dict": state}, tmp_path / "epoch_3.pt")
    clip = frozen_clip.load(str(tmp_path / "epoch_3.pt"), activation="gelu", heads=(4, 2))
    same(clip, "gelu", (4, 2))
    assert clip.origin["source"].startswith("MODEL.BACKBONE.ACTIVATION")


def test_a_file_says_it_itself(tmp_path):
    model = build(dict(STATE))
    properties.apply(model, "gelu", (4, 2))
    torch.save(described(model), tmp_path / "clip.pt")
    save_file(STATE, tmp_path / "clip.safetensors", metadata={"activation": "gelu", "heads": "4,2"})
    for name in ("clip.pt", "clip.safetensors"):
        same(frozen_clip.load(str(tmp_path / name)), "gelu", (4, 2))


def test_what_the_docs_say_of_a_file_that_says_nothing_is_enough(tmp_path, monkeypatch):
    torch.save(STATE, tmp_path / "mine.pt")
    with pytest.raises(ValueError, match=r"See docs/weights\.md"):
        frozen_clip.load(str(tmp_path / "mine.pt"))
    text = (REPO / "docs" / "weights.md").read_text()
    monkeypatch.chdir(tmp_path)
    exec(text.partition("```python\n")[2].partition("```")[0].replace("[12, 8]", "[2, 1]"), {})
    same(frozen_clip.load("mine.pt"), "quick_gelu", (2, 1))


# Hugging Face


@pytest.fixture(scope="module")
def hugging_face(tmp_path_factory):
    """Directories of transformers' with one CLIP."""
    folder = tmp_path_factory.mktemp("hugging_face")
    tower = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2}
    vision = {"num_attention_heads": 4, "image_size": 32, "patch_size": 16}
    config = CLIPConfig(
        vision_config={**tower, **vision, "hidden_act": "gelu"},
        text_config={**tower, "num_attention_heads": 2, "hidden_act": "gelu"},
        projection_dim=32,
    )
    model = CLIPModel(config)
    model.save_pretrained(folder / "whole")
    model.save_pretrained(folder / "shards", max_shard_size="6MB")
    shutil.copytree(folder / "whole", folder / "old")
    (folder / "old/model.safetensors").unlink()
    positions = {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    torch.save({**model.state_dict(), **positions}, folder / "old/pytorch_model.bin")
    return folder


def test_hugging_face_directory(hugging_face):
    whole = frozen_clip.load(str(hugging_face / "whole"))
    same(whole, "gelu", (4, 2), whole.clip.state_dict())
    assert whole.clip.visual.proj.is_contiguous() and whole.clip.text_projection.is_contiguous()
    for name in ("shards", "old", "whole/model.safetensors"):
        clip = frozen_clip.load(str(hugging_face / name))
        same(clip, "gelu", (4, 2), whole.clip.state_dict())


def test_defaults_of_a_hugging_face_config_and_its_images(hugging_face, tmp_path):
    place = shutil.copytree(hugging_face / "whole", tmp_path / "x")
    content = json.loads((place / "config.json").read_text())
    for tower in ("vision", "text"):
        del content[f"{tower}_config"]["hidden_act"]
    (place / "config.json").write_text(json.dumps(content))
    images = {"image_mean": [0.4, 0.5, 0.6], "resample": 2}
    (place / "preprocessor_config.json").write_text(json.dumps(images))
    clip = frozen_clip.load(str(place))
    assert clip.origin["activation"] == "quick_gelu"
    assert clip.loaded.images == properties.Preprocessing((0.4, 0.5, 0.6), None, "bilinear")


# Runs


def test_a_config_that_prepares_images_otherwise_is_refused(toy, tmp_path, capsys):
    """And what the message says is enough."""
    open_clip(tmp_path / "clip")
    opts = ("MODEL.BACKBONE.NAME", str(tmp_path / "clip"))
    told = refused(capsys, command(toy, "MMRL", tmp_path / "out", opts=opts))
    assert "says that it takes images with (0.5, 0.5, 0.5): set INPUT.PIXEL_MEAN" in told
    advice = told.split(": set ")[1].strip().split(" ", 1)
    opts += (advice[0], advice[1].strip('"'), "TRAINER.MMRL.REP_LAYERS", "[1, 2]")
    assert train.main(command(toy, "MMRL", tmp_path / "out", opts=opts)) == 0
    record = json.loads((tmp_path / "out/results.json").read_text())["clip"]
    assert record["heads"] == {"vision": 2, "text": 4} and len(record["sha256"]) == 64
    assert record["source"] == str(tmp_path / "clip" / "open_clip_config.json")


def test_prediction_and_export_compute_as_the_run_did(toy, tmp_path, picture):
    """A CLIP with GELU and other heads, in training, prediction and the exported graph."""
    model = reference.random_clip(layers=(4, 3))
    properties.apply(model, "gelu", (2, 4))
    torch.save(described(model), tmp_path / "gelu.pt")
    opts = ("MODEL.BACKBONE.NAME", str(tmp_path / "gelu.pt"))
    assert train.main(command(toy, "MMRL", tmp_path / "run", opts=opts)) == 0
    classifier = load(tmp_path / "run")
    logits = classifier.logits(picture)
    assert classifier.method.clip.origin["heads"] == {"vision": 2, "text": 4}
    properties.apply(classifier.method.clip.clip, "gelu", (1, 1))
    assert not torch.allclose(classifier.logits(picture), logits, atol=1e-2)
    flags = ["--model-dir", str(tmp_path / "run"), "--export", str(tmp_path / "exported")]
    assert predict(flags) == 0  # which compares the graph with the method
    record = json.loads((tmp_path / "run/results.json").read_text())["clip"]
    assert (record["activation"], record["source"]) == ("gelu", str(tmp_path / "gelu.pt"))


# The hub


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of huggingface_hub, and no network."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.setattr(hub_constants, name, str(tmp_path / "hub"), raising=False)
    monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def put(cache, name="owner/clip"):
    """A model in the cache, as huggingface_hub leaves it there."""
    place = cache / f"models--{name.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs/main").write_text(COMMIT)
    return open_clip(place / "snapshots" / COMMIT)


@pytest.mark.parametrize("revision", ["", "@main", f"@{COMMIT}"])
def test_a_model_in_the_cache_needs_no_network(cache, revision):
    put(cache)
    clip = frozen_clip.load(f"hf-hub:owner/clip{revision}")
    same(clip, "quick_gelu", (2, 4))
    assert COMMIT in clip.origin["source"]


def test_a_model_that_is_not_in_the_cache_says_so(cache):
    with pytest.raises(OSError, match=r"not in the cache, and HF_HUB_OFFLINE is set.*choose"):
        frozen_clip.load("hf-hub:owner/other")


def test_what_is_in_the_cache_is_listed(cache, capsys):
    assert data_tool(["weights"]) == 0 and "none" in capsys.readouterr().out
    put(cache)
    (put(cache, "owner/no_clip") / "open_clip_config.json").unlink()
    assert data_tool(["weights"]) == 0
    told = capsys.readouterr().out
    assert "hf-hub:owner/clip" in told and "no_clip" not in told
    assert "ViT-B/16" in told and "small" in told


def hub_error(kind):
    return kind.__new__(kind)  # without the answer of a server


def test_a_model_is_downloaded(tmp_path, monkeypatch):
    """The files that there are, all of the first one's commit."""
    place, asked = open_clip(tmp_path / COMMIT), []

    def download(repo, file, revision, local_files_only):
        asked.append((repo, file, revision, local_files_only))
        if not (place / file).is_file():
            raise hub_error(errors.EntryNotFoundError)
        return str(place / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    same(frozen_clip.load("hf-hub:owner/clip@v1"), "quick_gelu", (2, 4))
    assert asked[0] == ("owner/clip", "open_clip_config.json", "v1", False)
    assert asked[1] == ("owner/clip", "open_clip_model.safetensors", COMMIT, False)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (errors.RepositoryNotFoundError, "there is no owner/clip .*correct the name"),
        (errors.RevisionNotFoundError, "owner/clip has no revision v9: leave it out"),
        (errors.LocalEntryNotFoundError, "not in the cache, and could not be .*with a network"),
        (ConnectionError, "not in the cache, and could not be .*with a network"),
    ],
)
def test_what_the_hub_does_not_have(error, says, monkeypatch):
    def fail(*args, **kwargs):
        raise hub_error(error)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(OSError, match=says):
        hub.fetch("hf-hub:owner/clip@v9")
