"""Features and gradients are those of open_clip_torch and transformers, at real widths.

The weights are random, the layers few; widths, heads, patches and activations are the real ones.
"""

import json

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel

import frozen_clip
from frozen_clip import insert, overwrite

TOLERANCE = 1e-5  # of the largest number
LAYERS, FIRST, K = 2, 2, 3  # of a tower; before which tokens join; how many
NAMES = ["cat", "great white shark"]
OPEN_CLIP = ("ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-L-14-336", "ViT-H-14")
# Of transformers: width, heads, patch and pixels of the vision tower; width and heads of the text
# tower; joint space.
HUGGING_FACE = {
    "B-32": (768, 12, 32, 224, 512, 8, 512),
    "L-14": (1024, 16, 14, 224, 768, 12, 768),
    "H-14": (1280, 16, 14, 224, 1024, 16, 1024),
}


def assert_close(ours, theirs):
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= TOLERANCE * theirs.abs().max()


def gradient(features, tokens):
    probe = torch.linspace(-1, 1, features.numel()).view_as(features)
    return torch.autograd.grad((features * probe).sum(), tokens)[0]


def edited(block, edit):
    """The block behind an edit of its input, wherever that stands in the reference."""

    def hook(module, args, kwargs):
        if args:
            return (edit(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": edit(kwargs["hidden_states"])}

    return block.register_forward_pre_hook(hook, with_kwargs=True)


def compare(clip, vision_block, text_block, image_features, text_features):
    """Plain features, and those behind tokens that join in layer FIRST, with their gradients."""
    torch.manual_seed(0)
    images = torch.randn(2, 3, clip.image_size, clip.image_size)
    prompts = clip.prompts(NAMES, "X X X {}.")
    with torch.no_grad():
        assert_close(clip.encode_image(images), image_features(images))
        assert_close(clip.encode_text(prompts), text_features(prompts.ids_CL))
    tokens = torch.randn(K, clip.vision.width, requires_grad=True)
    edit = insert(tokens)
    ours = clip.vision(images, {FIRST: edit}).edited[:, 0] @ clip.vision_projection
    with edited(vision_block, edit):
        theirs = image_features(images)
    assert_close(ours, theirs)
    assert_close(gradient(ours, tokens), gradient(theirs, tokens))
    tokens = torch.randn(K, clip.text.width, requires_grad=True)
    edit = overwrite(tokens)
    ours = clip.text(prompts, {FIRST: edit})
    with edited(text_block, edit):
        theirs = text_features(prompts.ids_CL)
    assert_close(ours, theirs)
    assert_close(gradient(ours, tokens), gradient(theirs, tokens))


def wake(model):
    """Make every tensor matter: many start as zeros or ones."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if tensor.dim() < 2 and name != "logit_scale":
                tensor += 0.1 * torch.randn(tensor.shape, generator=generator)
    return model.eval().requires_grad_(False)


def open_clip_directory(name, folder, vision_layers=LAYERS):
    """A directory as open_clip's are on the hub, of a model with few layers; and the model."""
    config = open_clip.get_model_config(name)
    for tower, layers in (("vision_cfg", vision_layers), ("text_cfg", LAYERS)):
        config[tower] = {**config[tower], "layers": layers}
    model = wake(open_clip.CLIP(**config))
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return model


def cases(names, activations, quick):
    """All of them, those that are not `quick` in the slow tier."""
    pairs = [(name, activation) for name in names for activation in activations]
    slow = [pytest.mark.slow]
    return [pytest.param(*pair, marks=[] if pair in quick else slow) for pair in pairs]


QUICK = {("ViT-B-32", "-quickgelu"), ("ViT-B-16", ""), ("ViT-H-14", "")}


@pytest.mark.parametrize(("name", "activation"), cases(OPEN_CLIP, ("", "-quickgelu"), QUICK))
def test_open_clip(name, activation, tmp_path):
    model = open_clip_directory(name + activation, tmp_path)
    clip = frozen_clip.load(str(tmp_path))
    assert clip.origin["activation"] == ("quick_gelu" if activation else "gelu")
    compare(
        clip,
        model.visual.transformer.resblocks[FIRST - 1],
        model.transformer.resblocks[FIRST - 1],
        model.encode_image,
        model.encode_text,
    )


def test_a_resnet_of_open_clip(tmp_path):
    model = open_clip_directory("RN50", tmp_path, vision_layers=[1, 1, 1, 1])
    clip = frozen_clip.load(str(tmp_path))
    assert clip.origin["heads"] == {"vision": 32, "text": 8}
    images, prompts = torch.randn(2, 3, 224, 224), clip.prompts(NAMES, "X X X {}.")
    with torch.no_grad():
        assert_close(clip.encode_image(images), model.encode_image(images))
        assert_close(clip.encode_text(prompts), model.encode_text(prompts.ids_CL))


def hugging_face_model(name, activation):
    width, heads, patch, pixels, text_width, text_heads, embed = HUGGING_FACE[name]
    vision = {
        **{"hidden_size": width, "num_attention_heads": heads, "intermediate_size": 4 * width},
        **{"patch_size": patch, "image_size": pixels},
    }
    text = {
        **{"hidden_size": text_width, "num_attention_heads": text_heads},
        "intermediate_size": 4 * text_width,
    }
    same = {"hidden_act": activation, "num_hidden_layers": LAYERS, "projection_dim": embed}
    config = CLIPConfig(
        vision_config={**vision, **same}, text_config={**text, **same}, projection_dim=embed
    )
    return wake(CLIPModel(config))


QUICK = {("B-32", "quick_gelu"), ("H-14", "gelu")}


@pytest.mark.parametrize(("name", "activation"), cases(HUGGING_FACE, ("gelu", "quick_gelu"), QUICK))
def test_transformers(name, activation, tmp_path):
    model = hugging_face_model(name, activation)
    model.save_pretrained(tmp_path)
    clip = frozen_clip.load(str(tmp_path))
    vision, text = model.vision_model, model.text_model
    compare(
        clip,
        vision.encoder.layers[FIRST - 1],
        text.encoder.layers[FIRST - 1],
        lambda images: model.visual_projection(vision(pixel_values=images).pooler_output),
        lambda ids: model.text_projection(text(input_ids=ids).pooler_output),
    )
