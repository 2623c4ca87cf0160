"""Drawn images as tensors: a pool drawn once by several processes, and its augmentation."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from tools.small_clip.weights import IMAGE_SIZE
from tools.toy.drawing import draw_class

MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)  # OpenAI CLIP's
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)


def draw_pool(names: tuple[str, ...], count: int, seed: int, workers: int) -> torch.Tensor:
    """Plain images of all classes, (C, count, 3, SIZE, SIZE) uint8, whatever `workers` is."""
    # Spawned, not forked: torch has threads by now, and a forked copy of them can hang.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        drawn = list(pool.map(draw_class, names, [count] * len(names), [seed] * len(names)))
    return torch.from_numpy(np.stack(drawn)).permute(0, 1, 4, 2, 3).contiguous()


def preprocess(drawn: np.ndarray) -> torch.Tensor:
    """CLIP's own test transform: bicubic resize, normalize. (N, H, W, 3) uint8 -> (N, 3, h, w)."""
    size = (IMAGE_SIZE, IMAGE_SIZE)
    small = [Image.fromarray(p).resize(size, Image.Resampling.BICUBIC) for p in drawn]
    images = torch.from_numpy(np.stack([np.asarray(p) for p in small])).permute(0, 3, 1, 2)
    return (images / 255 - MEAN) / STD


def augment(drawn: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Crop, flip and shrink, then light, cast and noise. (N, 3, SIZE, SIZE) uint8 -> normalized.

    A crop keeps 40-100% of the area, as the training transforms of few-shot methods do.
    """
    n = len(drawn)

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return torch.empty(n, *shape).uniform_(low, high, generator=generator)

    side, ratio = uniform(0.4, 1.0).sqrt(), uniform(-0.25, 0.25).exp().sqrt()
    width, height = (side * ratio).clamp(max=1), (side / ratio).clamp(max=1)
    flip = torch.randint(0, 2, (n,), generator=generator) * 2 - 1
    affine = torch.zeros(n, 2, 3)
    affine[:, 0, 0], affine[:, 1, 1] = width * flip, height
    affine[:, 0, 2] = (1 - width) * uniform(-1, 1)
    affine[:, 1, 2] = (1 - height) * uniform(-1, 1)
    grid = F.affine_grid(affine, [n, 3, IMAGE_SIZE, IMAGE_SIZE], align_corners=False)
    images = F.grid_sample(drawn / 255, grid, padding_mode="border", align_corners=False)
    images = images * uniform(0.8, 1.2, 1, 1, 1) * uniform(0.93, 1.07, 3, 1, 1)
    noise = torch.randn(images.shape, generator=generator) * uniform(0, 0.05, 1, 1, 1)
    return ((images + noise).clamp(0, 1) - MEAN) / STD
