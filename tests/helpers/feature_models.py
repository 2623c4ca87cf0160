"""Small models of open_clip's in directories, of the kinds that give features alone."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

WORDS = ("red", "blue", "green", "pink", "circle", "square", "star", "ring", "a", "photo", "of")
TOWER = {"width": 64, "heads": 2, "layers": 1}
VISION = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16}
TIMM = {"image_size": 160, "timm_model_name": "test_vit", "timm_pool": "map", "timm_proj": "none"}
CONFIGS = {
    "custom": {  # open_clip's own layers, and its byte pairs
        **{"embed_dim": 32, "custom_text": True, "vision_cfg": VISION},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, **TOWER},
    },
    "plain": {  # not of a text tower of its own
        **{"embed_dim": 32, "quick_gelu": True, "vision_cfg": VISION},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, **TOWER},
    },
    "siglip": {
        **{"embed_dim": 64, "init_logit_bias": -10, "custom_text": True, "vision_cfg": TIMM},
        "text_cfg": {
            **{"context_length": 8, "vocab_size": 32, "hf_tokenizer_name": "timm/no_such_siglip"},
            **{"tokenizer_kwargs": {"clean": "canonicalize"}, **TOWER},
            **{"no_causal_mask": True, "proj_bias": True, "pool_type": "last"},
            "norm_kwargs": {"eps": 1e-6},
        },
    },
    "biomed": {  # a text tower of transformers; hf_model_name is set by `write`
        **{"embed_dim": 64, "vision_cfg": TIMM},
        "text_cfg": {
            **{"context_length": 8, "hf_tokenizer_name": "owner/no_such_bert"},
            **{"hf_model_name": "", "hf_proj_type": "mlp"},
            "hf_pooler_type": "cls_last_hidden_state_pooler",
        },
    },
}
SQUASH = {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"}


def write(folder: Path, kind: str, images: dict | None = None, tokenizer: bool = True):
    """A directory of this kind; open_clip's own model, which it was saved from."""
    import open_clip

    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads(json.dumps(CONFIGS[kind]))
    if kind == "biomed":
        write_bert(folder / "bert")
        config["text_cfg"] |= {"hf_model_name": str(folder / "bert"), "hf_model_pretrained": False}
    if kind in ("siglip", "biomed") and tokenizer:
        write_tokenizer(folder)
    content = {"model_cfg": config, "preprocess_cfg": images}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        rest = {key: value for key, value in config.items() if key != "custom_text"}
        custom = config.get("custom_text") or kind == "biomed"
        model = (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**rest).eval()
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return model


def write_tokenizer(folder: Path, first: int = 0) -> None:
    """One id for each word, counted from `first`, as transformers keeps it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ("[PAD]", "[EOS]", "[UNK]")
    vocabulary = {word: number for number, word in enumerate((*special, *WORDS), first)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A [EOS]", special_tokens=[("[EOS]", first + 1)]
    )
    words = {"pad_token": "[PAD]", "eos_token": "[EOS]", "unk_token": "[UNK]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **words).save_pretrained(folder)


def write_bert(folder: Path) -> None:
    from transformers import BertConfig

    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertConfig(vocab_size=32, intermediate_size=64, **sizes).save_pretrained(folder)
