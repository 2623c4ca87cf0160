"""The templates of the small CLIP's prompts, and the tokens that its weights file keeps."""

from __future__ import annotations

import clip
import numpy as np

from tools.toy.drawing import COLORS, SHAPES

# Every template that a dataset or a method of this project puts around a class name.
BENCHMARK_TEMPLATES: tuple[str, ...] = (
    "a photo of a {}.",
    "a photo of a {}, a type of pet.",
    "a photo of a {}, a type of flower.",
    "a photo of a {}, a type of aircraft.",
    "a photo of {}, a type of food.",
    "a centered satellite photo of {}.",
    "a photo of a person doing {}.",
    "{} texture.",
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)

# A made-up template is OPENING DETERMINER ADJECTIVE {} ENDING, any part of which may be empty.
OPENINGS = (
    "a photo of", "a picture of", "a drawing of", "a sketch of", "a painting of",
    "a rendering of", "a rendition of", "a sculpture of", "a cartoon of", "an image of",
    "a doodle of", "graffiti of", "a tattoo of", "art of", "itap of", "a close-up photo of",
    "a black and white photo of", "a cropped photo of", "a low resolution photo of",
    "a bright photo of", "a dark photo of", "a blurry photo of", "a good photo of",
    "a bad photo of", "a jpeg corrupted photo of", "a pixelated photo of", "there is", "this is",
)  # fmt: skip
DETERMINERS = ("a", "a", "a", "the", "one", "my", "an", "some", "many", "")
ADJECTIVES = (
    "large", "small", "big", "tiny", "nice", "clean", "dirty", "weird", "cool", "plain",
    "origami", "plastic", "toy", "plushie", "embroidered", "hard to see", "striped", "single",
)  # fmt: skip
ENDINGS = (
    ".", ".", ".", "", "!", " in a video game.", " in the scene.", " on a background.",
    ", a type of thing.", ", a type of shape.", ", a type of pet.", ", a type of flower.",
    ", a type of aircraft.", ", a type of food.", ", a type of object.", " texture.",
)  # fmt: skip

# Kept in the weights file though no prompt holds them: placeholders and first words that
# prompt-learning methods start from, and punctuation.
EXTRA_WORDS = "x xx of in on at and with for is it its to by , . ! ? : ; ' \" ( ) - _ / # * 0 1 2 3"


def random_template(rng: np.random.Generator) -> str:
    """A template with one {}: half the time one of the benchmark's, else a made-up one."""
    if rng.random() < 0.5:
        return BENCHMARK_TEMPLATES[rng.integers(len(BENCHMARK_TEMPLATES))]
    opening = OPENINGS[rng.integers(len(OPENINGS))] if rng.random() < 0.8 else ""
    determiner = DETERMINERS[rng.integers(len(DETERMINERS))]
    adjective = ADJECTIVES[rng.integers(len(ADJECTIVES))] if rng.random() < 0.3 else ""
    ending = ENDINGS[rng.integers(len(ENDINGS))]
    return " ".join(part for part in (opening, determiner, adjective, "{}") if part) + ending


def vocabulary() -> np.ndarray:
    """Sorted ids of every token that a prompt can hold and of the extra words, (V,) int32."""
    words = [*COLORS, *SHAPES, *BENCHMARK_TEMPLATES, *OPENINGS, *DETERMINERS, *ADJECTIVES, *ENDINGS]
    text = [word.replace("{}", "") for word in words] + EXTRA_WORDS.split()
    return np.unique(clip.tokenize(text).numpy()).astype(np.int32)
