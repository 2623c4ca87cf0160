"""Zero-shot accuracy of the small CLIP on drawn pictures, by attribute and by group of classes.

python -m tools.small_clip.evaluate prints the table of tools/small_clip/README.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import clip
import numpy as np
import torch
from clip.model import CLIP

from tools.small_clip import weights
from tools.small_clip.pictures import preprocess
from tools.toy.classes import BASE, CLASSES, NEW, SEEN
from tools.toy.drawing import draw_class, split_name

TEMPLATE = "a photo of a {}."
GROUPS = {"seen": SEEN, "held-out": CLASSES, "base": BASE, "new": NEW}


@torch.no_grad()
def predict(model: CLIP, images: torch.Tensor, tokens: torch.Tensor) -> np.ndarray:
    """Index of the nearest sentence for each image, (N,)."""
    image, text = model.encode_image(images), model.encode_text(tokens)
    cosine = torch.nn.functional.normalize(image, dim=1) @ torch.nn.functional.normalize(text).T
    return cosine.argmax(dim=1).numpy()


def tokenize(names: tuple[str, ...]) -> torch.Tensor:
    return clip.tokenize([TEMPLATE.format(name) for name in names])


def accuracy(
    model: CLIP,
    names: tuple[str, ...],
    count: int,
    seed: int,
    strength: float = 0.0,
    tokens: torch.Tensor | None = None,
) -> dict[str, float]:
    """Percent right of `count` fresh pictures a class, told apart within `names` only.

    Keys: 'class', and 'color' and 'shape', where the predicted class shares that attribute.
    `tokens` are the sentences of `names` if they are not to be made with `TEMPLATE`.
    """
    style = "shifted" if strength else "plain"
    drawn = [draw_class(name, count, seed, style, strength) for name in names]
    tokens = tokenize(names) if tokens is None else tokens
    right = {"class": 0, "color": 0, "shape": 0}
    for name, pictures in zip(names, drawn, strict=True):
        truth = np.array(split_name(name))
        nearest = predict(model, preprocess(pictures), tokens)
        guessed = np.array([split_name(names[k]) for k in nearest])
        same = guessed == truth
        right["class"] += int(same.all(axis=1).sum())
        right["color"] += int(same[:, 0].sum())
        right["shape"] += int(same[:, 1].sum())
    return {key: 100 * value / (count * len(names)) for key, value in right.items()}


def report(
    model: CLIP, strengths: Sequence[float], count: int = 40, seed: int = 20_000
) -> Iterator[str]:
    """A line for every strength of the shifted style and every group of classes."""
    for strength in strengths:
        for group, names in GROUPS.items():
            score = accuracy(model, names, count, seed, strength)
            cells = " ".join(f"{key} {value:.1f}%" for key, value in score.items())
            yield f"shift {strength:.2f} {group} (of {len(names)} classes): {cells}"


if __name__ == "__main__":
    for line in report(weights.load(), strengths=(0.0, 0.25, 0.5, 0.75, 1.0)):
        print(line, flush=True)
