"""Every make of weights gives the same CLIP; what a model says of itself is used and recorded."""

import json
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants as hub_constants
import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel

import frozen_clip
import train
from frozen_clip import described, properties, reference
from frozen_clip.weights import build, hub
from tests.helpers.toy_run import REPO, command, refused
from tests.wrong.backbones import OPEN_CLIP
from tools.data.__main__ import main as data_tool
from tools.predict import load
from tools.predict.__main__ import main as predict

SIZES = {"layers": (2, 2), "vision_width": 128}
MODEL = reference.random_clip(**SIZES)
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


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("weights", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"])
def test_open_clip_directory_and_file(tmp_path, weights, quick):
    open_clip(tmp_path, weights, quick_gelu=quick)
    for place in (tmp_path, tmp_path / weights):
        same(frozen_clip.load(str(place)), "quick_gelu" if quick else "gelu", (2, 4))


def test_other_files_beside_a_config_are_not_taken_for_its_own(tmp_path):
    open_clip(tmp_path)
    torch.save(STATE, tmp_path / "another.pt")
    with pytest.raises(ValueError, match="does not say its activation"):
        frozen_clip.load(str(tmp_path / "another.pt"))


def test_open_clip_with_a_text_tower_of_its_own(tmp_path):
    text = lambda key: key if key.startswith("visual.") or key == "logit_scale" else f"text.{key}"  # noqa: E731
    state = {text(key): value for key, value in STATE.items()}
    open_clip(tmp_path, state=state, custom_text=True)
    same(frozen_clip.load(str(tmp_path)), "quick_gelu", (2, 4))


def test_a_checkpoint_of_open_clips_training(tmp_path):
    state = {f"module.{key}": value for key, value in STATE.items()}
    torch.save({"epoch": 3, "name": "x", "state_dict": state}, tmp_path / "epoch_3.pt")
    clip = frozen_clip.load(str(tmp_path / "epoch_3.pt"), activation="gelu", heads=(4, 2))
    same(clip, "gelu", (4, 2))
    assert clip.origin["source"].startswith("MODEL.BACKBONE.ACTIVATION")


@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_a_file_can_say_it_itself(tmp_path, kind):
    model = build(dict(STATE))
    properties.apply(model, "gelu", (4, 2))
    file = tmp_path / f"clip.{kind}"
    if kind == "pt":
        torch.save(described(model), file)
    else:
        save_file(STATE, file, metadata={"activation": "gelu", "heads": "4,2"})
    same(frozen_clip.load(str(file)), "gelu", (4, 2))


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
    """A directory of transformers', and what its CLIP's tensors are under OpenAI's names."""
    folder = tmp_path_factory.mktemp("hugging_face")
    tower = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2}
    config = CLIPConfig(
        vision_config={
            **{**tower, "num_attention_heads": 4, "hidden_act": "gelu"},
            **{"image_size": 32, "patch_size": 16},
        },
        text_config={**tower, "num_attention_heads": 2, "hidden_act": "gelu"},
        projection_dim=32,
    )
    model = CLIPModel(config)
    model.save_pretrained(folder / "whole")
    model.save_pretrained(folder / "shards", max_shard_size="6MB")
    for name in ("bin", "old"):
        shutil.copytree(folder / "whole", folder / name)
        (folder / name / "model.safetensors").unlink()
        positions = {"text_model.embeddings.position_ids": torch.arange(77)[None]}
        state = {**model.state_dict(), **(positions if name == "old" else {})}
        torch.save(state, folder / name / "pytorch_model.bin")
    return folder


@pytest.mark.parametrize("name", ["whole", "shards", "bin", "old", "whole/model.safetensors"])
def test_hugging_face_directory(hugging_face, name):
    clip = frozen_clip.load(str(hugging_face / name))
    whole = frozen_clip.load(str(hugging_face / "whole"))
    same(clip, "gelu", (4, 2), whole.clip.state_dict())
    assert clip.clip.visual.proj.is_contiguous() and clip.clip.text_projection.is_contiguous()


def test_what_a_hugging_face_config_leaves_out_is_its_default(hugging_face, tmp_path):
    shutil.copytree(hugging_face / "whole", tmp_path / "x")
    file = tmp_path / "x/config.json"
    content = json.loads(file.read_text())
    for tower in ("vision", "text"):
        del content[f"{tower}_config"]["hidden_act"]
    file.write_text(json.dumps(content))
    assert frozen_clip.load(str(tmp_path / "x")).origin["activation"] == "quick_gelu"


def test_a_lost_shard_and_a_lost_tensor_are_named(hugging_face, tmp_path):
    shutil.copytree(hugging_face / "shards", tmp_path / "x")
    gone = sorted((tmp_path / "x").glob("*.safetensors"))[0]
    gone.unlink()
    with pytest.raises(ValueError, match=rf"lacks {gone.name}, 1 of the \d shards"):
        frozen_clip.load(str(tmp_path / "x"))
    save_file({"a": torch.ones(1)}, gone)
    with pytest.raises(ValueError, match=r"x lacks .*: get|does not hold the weights"):
        frozen_clip.load(str(tmp_path / "x"))


def test_preprocessing_comes_along(hugging_face, tmp_path):
    shutil.copytree(hugging_face / "whole", tmp_path / "x")
    content = {"image_mean": [0.4, 0.5, 0.6], "resample": 2}
    (tmp_path / "x/preprocessor_config.json").write_text(json.dumps(content))
    images = frozen_clip.load(str(tmp_path / "x")).loaded.images
    assert images == properties.Preprocessing((0.4, 0.5, 0.6), None, "bilinear")


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


def test_prediction_and_export_compute_as_the_run_did(toy, tmp_path, picture, capsys):
    """A CLIP with GELU and other heads, in training, prediction and the exported graph."""
    model = reference.random_clip(layers=(4, 3))
    properties.apply(model, "gelu", (2, 4))
    torch.save(described(model), tmp_path / "gelu.pt")
    opts = ("MODEL.BACKBONE.NAME", str(tmp_path / "gelu.pt"))
    assert train.main(command(toy, "MMRL", tmp_path / "run", opts=opts)) == 0
    classifier = load(tmp_path / "run")
    assert classifier.method.clip.origin["heads"] == {"vision": 2, "text": 4}
    kept = load(tmp_path / "run").logits(picture)
    assert torch.equal(classifier.logits(picture), kept)
    properties.apply(classifier.method.clip.clip, "gelu", (1, 1))
    assert not torch.allclose(classifier.logits(picture), kept, atol=1e-2)
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
    monkeypatch.setattr(hub_constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    return tmp_path / "hub"


def put(cache, name="owner/clip"):
    """A model in the cache, as huggingface_hub leaves it there."""
    place = cache / f"models--{name.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs/main").write_text(COMMIT)
    open_clip(place / "snapshots" / COMMIT)


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
    put(cache, "owner/no_clip")
    (cache / "models--owner--no_clip/snapshots" / COMMIT / "open_clip_config.json").unlink()
    assert data_tool(["weights"]) == 0
    told = capsys.readouterr().out
    assert "hf-hub:owner/clip" in told and "no_clip" not in told
    assert "ViT-B/16" in told and "small" in told


class Hub(SimpleHTTPRequestHandler):
    """The few answers of the hub that a download needs: /OWNER/NAME/resolve/REVISION/FILE."""

    def log_message(self, *_):
        pass

    def send_head(self):
        parts = self.path.split("?")[0].strip("/").split("/")
        file = Path(self.directory, parts[-1])
        if parts[:2] != ["owner", "clip"]:
            return self.refuse("RepoNotFound")
        if parts[3] not in ("main", COMMIT):
            return self.refuse("RevisionNotFound")
        if not file.is_file():
            return self.refuse("EntryNotFound")
        self.send_response(200)
        self.send_header("Content-Length", str(file.stat().st_size))
        self.send_header("ETag", f'"{file.name}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        return file.open("rb")

    def refuse(self, code):
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def server(cache, tmp_path, monkeypatch):
    """A hub on this machine, with one repository."""

    handler = partial(Hub, directory=str(open_clip(tmp_path / "served")))
    monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", False)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        place = f"http://127.0.0.1:{httpd.server_port}"
        monkeypatch.setattr(hub_constants, "ENDPOINT", place)
        template = f"{place}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(hub_constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield httpd
        httpd.shutdown()


def test_a_model_is_downloaded_and_kept(server, monkeypatch):
    same(frozen_clip.load("hf-hub:owner/clip"), "quick_gelu", (2, 4))
    monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", True)
    same(frozen_clip.load("hf-hub:owner/clip"), "quick_gelu", (2, 4))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("owner/clop", "there is no owner/clop .*correct the name"),
        ("owner/clip@v9", "owner/clip has no revision v9: leave it out"),
    ],
)
def test_what_the_hub_does_not_have(server, name, says):
    with pytest.raises(OSError, match=says):
        hub.fetch(f"hf-hub:{name}")


def test_no_network_is_one_message(server, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between its tries
    server.shutdown()
    server.server_close()
    with pytest.raises(OSError, match=r"not in the cache, and .*could not be reached.*network"):
        hub.fetch("hf-hub:owner/clip")
