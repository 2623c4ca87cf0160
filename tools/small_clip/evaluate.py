"""Zero-shot accuracy of the small CLIP on drawn images, by attribute and by group of classes.

python -m tools.small_clip.evaluate prints the table of tools/small_clip/README.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import clip
import numpy as np
import torch
import torch.nn.functional as F
from clip.model import CLIP

from tools.small_clip import weights
from tools.small_clip.images import preprocess
from tools.toy.dataset import BASE, CLASSES, NEW, SEEN, SHIFT
from tools.toy.drawing import draw_class, split_name

TEMPLATE = "a photo of a {}."
GROUPS = {"seen": SEEN, "held-out": CLASSES, "base": BASE, "new": NEW}


def tokenize(names: tuple[str, ...]) -> torch.Tensor:
    return clip.tokenize([TEMPLATE.format(name) for name in names])


@torch.no_grad()
def accuracy(
    model: CLIP,
    names: tuple[str, ...],
    count: int,
    seed: int,
    strength: float = 0.0,
    tokens: torch.Tensor | None = None,
) -> dict[str, float]:
    """Percent right of `count` fresh images a class, told apart within `names` only.

    Keys: 'class', and 'color' and 'shape', where the predicted class shares that attribute.
    `tokens` are the prompts of `names` if they are not to be made with `TEMPLATE`.
    """
    style = "shifted" if strength else "plain"
    text_CE = F.normalize(model.encode_text(tokenize(names) if tokens is None else tokens))
    right = np.zeros(3)
    for name in names:
        drawn = draw_class(name, count, seed, style, strength)
        nearest = (model.encode_image(preprocess(drawn)) @ text_CE.T).argmax(dim=1)
        guessed = np.array([split_name(names[k]) for k in nearest])
        same = guessed == np.array(split_name(name))  # (count, 2): color, shape
        right += [same.all(axis=1).sum(), *same.sum(axis=0)]
    percent = 100 * right / (count * len(names))
    return dict(zip(("class", "color", "shape"), percent.tolist(), strict=True))


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
    for line in report(weights.load(), strengths=(0.0, 0.5, SHIFT, 1.0)):
        print(line, flush=True)
