"""Evaluation in the largest batch that fits, whatever the loader's is."""

from collections.abc import Callable

import torch
from torch import Tensor

# On a CPU more images at once are not faster (docs/benchmarks.md) and only take memory. It divides
# the batches of all published configs (100, 250, 500), so that all compute the same parts.
MOST_ON_CPU = 25


class LargestParts:
    """Cuts batches into parts that fit into memory; remembers what fitted."""

    def __init__(self, device: torch.device):
        self.kind = device.type
        self.most = MOST_ON_CPU if device.type == "cpu" else None

    def __call__(self, answer: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """`answer` of images (N, ...), part by part: (N, C).

        Where a GPU's memory does not suffice, parts are halved until it does; torch's
        OutOfMemoryError if it does not for one image.
        """
        while True:
            most = min(self.most or len(images), len(images))
            try:
                return torch.cat([answer(part) for part in images.split(most)])
            except torch.cuda.OutOfMemoryError:
                if most == 1:
                    raise
            self.most = most // 2
            getattr(torch, self.kind).empty_cache()
            print(f"Not enough memory for {most} images at once: evaluating {self.most}")
