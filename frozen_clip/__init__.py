"""The only code that touches CLIP's insides: one frozen model, edited layer by layer.

For example, inserting K learned tokens before layer 6 of both towers:

    clip = frozen_clip.load("ViT-B/16")
    prompts = clip.prompts(["cat", "dog"], "a photo of a {}.")
    features_CE = clip.text(prompts, {6: insert(text_tokens_KD)})
    tokens = clip.vision(images, {6: insert(vision_tokens_KD)}, rows=1 + K, plain=True)

`plain` asks for the unedited class token too: the zero-shot teacher is the same object.
"""

import warnings

from frozen_clip.allocator import ask_for_huge_pages
from frozen_clip.edits import Edit, Edits, blend, insert, overwrite
from frozen_clip.facts import described
from frozen_clip.features import FeatureCLIP, features_only
from frozen_clip.hashes import file_hash
from frozen_clip.model import FrozenCLIP
from frozen_clip.prompts import Prompts
from frozen_clip.weights import load, names, weights_file, weights_hash

__all__ = [
    "Edit",
    "Edits",
    "FeatureCLIP",
    "FrozenCLIP",
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

ask_for_huge_pages()
# Of the package clip, at its import; nothing that a user could do about.
warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
