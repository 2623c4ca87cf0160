"""The only code that touches CLIP's insides: one frozen model, edited layer by layer.

For example, inserting K learned tokens before layer 6 of both towers:

    clip = frozen_clip.load("ViT-B/16")
    prompts = clip.prompts(["cat", "dog"], "a photo of a {}.")
    features_CE = clip.text(prompts, {6: insert(text_tokens_KD)})
    tokens = clip.vision(images, {6: insert(vision_tokens_KD)}, rows=1 + K, plain=True)

`plain` asks for the unedited class token too: the zero-shot teacher is the same object.
"""

from frozen_clip.edits import Edit, Edits, blend, insert, overwrite
from frozen_clip.feature_clip import FeatureCLIP
from frozen_clip.inside import Inside, Insides, OwnTokens
from frozen_clip.model import FrozenCLIP
from frozen_clip.prompts import Prompts
from frozen_clip.properties import described
from frozen_clip.weights.files import file_hash
from frozen_clip.weights.load import load, names, weights_file, weights_hash
from frozen_clip.weights.open_clip import features_only

__all__ = [
    "Edit",
    "Edits",
    "FeatureCLIP",
    "FrozenCLIP",
    "Inside",
    "Insides",
    "OwnTokens",
    "Prompts",
    "blend",
    "described",
    "features_only",
    "file_hash",
    "insert",
    "load",
    "names",
    "overwrite",
    "weights_file",
    "weights_hash",
]
