"""Weights that are no CLIP, not a whole one, or one of which something is not said."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

from frozen_clip import described, reference
from tests.helpers import feature_models
from tests.helpers.hostile import Hostile
from tests.wrong import Wrong

OPEN_CLIP = {
    "embed_dim": 32,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
}
CLIP = reference.random_clip(layers=(1, 1))
SIGLIP = {"visual.trunk.a": torch.ones(1), "text.b": torch.ones(1)}
SHARD = {"weight_map": {"logit_scale": "model-00001-of-00002.safetensors"}}


def state(start: str = "") -> dict[str, torch.Tensor]:
    """The tensors of a small CLIP whose names start so."""
    return {name: value for name, value in CLIP.state_dict().items() if name.startswith(start)}


def saved(make: Callable[[], object]) -> Callable[[Path], None]:
    return lambda folder: torch.save(make(), folder / "clip.pt")


def open_clip(resize: str | None = None, **change: object) -> Callable[[Path], None]:
    """A directory of open_clip's whose config says something else."""

    def write(folder: Path) -> None:
        config = {"model_cfg": {**OPEN_CLIP, **change}, "preprocess_cfg": {}}
        if resize:
            config["preprocess_cfg"] = {"resize_mode": resize}
        (folder / "open_clip_config.json").write_text(json.dumps(config))
        save_file(state(), folder / "open_clip_model.safetensors")

    return write


def hugging_face(file: str = "model.safetensors", content: object = None, **config: object):
    """A directory of Hugging Face's with this config; its weights hold one tensor, or a text."""

    def write(folder: Path) -> None:
        (folder / "config.json").write_text(json.dumps({"model_type": "clip", **config}))
        if content is None:
            save_file({"logit_scale": torch.ones(())}, folder / file)
        else:
            (folder / file).write_text(json.dumps(content))

    return write


def vision(**change: object) -> dict:
    return {"vision_cfg": {**OPEN_CLIP["vision_cfg"], **change}}


def text(**change: object) -> dict:
    return {"text_cfg": {**OPEN_CLIP["text_cfg"], **change}}


def wrong(id: str, place: str, prepare: Callable | None, *says: str, opts: tuple = ()) -> Wrong:
    return Wrong(f"backbone {id}", ("MODEL.BACKBONE.NAME", place, *opts), says, prepare=prepare)


def features(id: str, place: str, prepare: Callable | None, *says: str, opts: tuple = ()) -> Wrong:
    """A method that needs features alone, and a backbone of open_clip's for it."""
    name = ("MODEL.BACKBONE.NAME", f"open_clip:{place}", *opts)
    return Wrong(f"feature backbone {id}", name, says, "ZeroshotCLIP", prepare=prepare)


def feature(kind: str, **text_cfg: object) -> Callable[[Path], None]:
    """A directory of this kind whose config says something else of the text."""

    def write(folder: Path) -> None:
        feature_models.write(folder, kind)
        file = folder / "open_clip_config.json"
        content = json.loads(file.read_text())
        content["model_cfg"]["text_cfg"].update(text_cfg)
        file.write_text(json.dumps(content))

    return write


def not_finite(folder: Path) -> None:
    state = feature_models.write(folder, "custom").state_dict()
    save_file({**state, "logit_scale": torch.tensor(torch.nan)}, folder / WEIGHTS)


def of_gelu(folder: Path) -> None:
    state = feature_models.write(folder, "plain").state_dict()
    (folder / WEIGHTS).unlink()
    content = {"state_dict": state, "activation": "gelu", "heads": [1, 2]}
    torch.save(content, folder / "open_clip_pytorch_model.bin")


def other_tokenizer(folder: Path) -> None:
    feature_models.write(folder, "siglip")
    feature_models.write_tokenizer(folder, first=31)


WEIGHTS = "open_clip_model.safetensors"
REMOTE = {"tokenizer_kwargs": {"trust_remote_code": True}}
FILE, FOLDER = "{tmp}/clip.pt", "{tmp}"
QUICK = ("MODEL.BACKBONE.ACTIVATION", "quick_gelu")
BACKBONES = (
    wrong("is an empty folder", FOLDER, None, "no directory of a CLIP", "open_clip_config.json"),
    wrong(
        *("says nothing", FILE, saved(state), r"MODEL.BACKBONE.ACTIVATION to quick_gelu"),
        r"BACKBONE.HEADS .*\(1, 1\).*\(16, 16\) for ViT-H-14",
    ),
    wrong(
        *("says another", "{toy}/narrow.pt", None, "ACTIVATION is gelu, but", "leave it out"),
        opts=("MODEL.BACKBONE.ACTIVATION", "gelu"),
    ),
    wrong(
        *("other heads", "{toy}/narrow.pt", None, r"HEADS is \(2, 1\), but", "leave it out"),
        opts=("MODEL.BACKBONE.HEADS", "[2, 1]"),
    ),
    wrong(
        *("heads that do not fit", FILE, saved(state), "cannot have 7 heads in its vision tower"),
        opts=(*QUICK, "MODEL.BACKBONE.HEADS", "[7, 1]"),
    ),
    wrong(
        *("heads that are none", FILE, saved(lambda: {**described(CLIP), "heads": 3})),
        *("says activation 'quick_gelu' and heads 3", "allowed"),
    ),
    wrong("text tower alone", FILE, saved(lambda: state("t")), "text tower .*no vision", "give"),
    wrong("SigLIP", FILE, saved(lambda: SIGLIP), "another kind .*SigLIP", "Take a CLIP"),
    wrong("runs code", FILE, saved(lambda: Hostile(Path("owned"))), "could not be read", "Allowed"),
    wrong("config of other layers", FOLDER, open_clip(**vision(layers=2)), "layers 2, .* of 1"),
    wrong("of SigLIP's kind", FOLDER, open_clip(init_logit_bias=-10), "init_logit_bias -10"),
    wrong("by timm", FOLDER, open_clip(**vision(timm_model_name="vit")), "timm_model_name 'vit'"),
    wrong("with unknown words", FOLDER, open_clip(**text(rotary=True)), "no config .*rotary"),
    wrong("another tokenizer", FOLDER, open_clip(**text(vocab_size=32000)), "vocab_size 32000"),
    wrong("squashed images", FOLDER, open_clip(resize="squash"), "set INPUT.RESIZE squash"),
    wrong("long images", FOLDER, open_clip(resize="longest"), "'longest'.*'squash'"),
    wrong("heads in words", FOLDER, open_clip(**text(heads="eight")), "no config .*eight", "get"),
    wrong("no config", FOLDER, open_clip(vision_cfg=None), "no config of open_clip's", "get"),
    wrong("not CLIP", FOLDER, hugging_face(model_type="siglip"), "model_type 'siglip'"),
    wrong(
        *("another activation", FOLDER, hugging_face(text_config={"hidden_act": "relu"})),
        *("hidden_act 'relu'", "Take another model"),
    ),
    wrong(
        *("missing shard", FOLDER, hugging_face("model.safetensors.index.json", SHARD)),
        *("lacks model-00001-of-00002.safetensors, 1 of the 1 shards", "get"),
    ),
    wrong("nothing in it", FOLDER, hugging_face(), "does not hold the weights of"),
    wrong("hub typo", "hf-hub:openai", None, "no name on the Hugging Face hub", "OWNER/NAME@REV"),
    features("typo", "ViT-B-16-SigLlP//a", None, "Did you mean 'ViT-B-16-SigLIP'", "Allowed"),
    features("without path", "ViT-B-16-SigLIP", None, "no file or directory ''", "put the path"),
    features("empty folder", FOLDER, None, "no directory of open_clip", "open_clip_config.json"),
    features(
        *("of another architecture", "EVA02-B-16/{tmp}", feature("custom")),
        *("has vision_cfg.layers 1, and EVA02-B-16 has 12", "correct .*leave it out"),
    ),
    features(
        *("of another width", FOLDER, feature("custom", width=128)),
        *("does not fit the architecture .*size mismatch", "correct one of the two"),
    ),
    features("of GELU", FOLDER, of_gelu, "activation gelu, .* has quick_gelu True: give the one"),
    features("of a CoCa", "coca_ViT-B-32/{tmp}/clip.pt", saved(state), "is a CoCa", "take another"),
    features(
        *("with activation", FOLDER, feature("custom"), "leave MODEL.BACKBONE.ACTIVATION and"),
        opts=QUICK,
    ),
    features("of a size", FOLDER, feature("custom", layers=10**9), "1000000000, which no", "get"),
    features(
        *("whose tokenizer runs code", FOLDER, feature("siglip", **REMOTE)),
        *("asks for a tokenizer with .*trust_remote_code", "take another"),
    ),
    features(
        "another tokenizer", FOLDER, other_tokenizer, "is not the tokenizer of", "put the files"
    ),
    features("not finite", FOLDER, not_finite, "infinite or NaN: logit_scale", "Get its file"),
    features("for MMRL", FOLDER, None, "features alone, and MMRL", "Choose --trainer ")._replace(
        trainer="MMRL"
    ),
)
