"""Augmentations that torchvision does not have."""

import torch
from PIL.Image import Image
from torch import Tensor
from torchvision import transforms as T
from torchvision.transforms import InterpolationMode


def _chance(p: float) -> bool:
    return bool(torch.rand(()) < p)


def _draw(low: int, high: int) -> int:
    """Draw a whole number from low to high - 1."""
    return int(torch.randint(low, high, ()))


class Random2DTranslation:
    """Resize to (height, width); with probability `p` to 9/8 of it, and crop at random."""

    def __init__(
        self,
        height: int,
        width: int,
        interpolation: InterpolationMode = InterpolationMode.BILINEAR,
        p: float = 0.5,
    ) -> None:
        self.p = p
        self.plain = T.Resize((height, width), interpolation=interpolation)
        enlarged = (round(height * 1.125), round(width * 1.125))
        self.shifted = T.Compose(
            [T.Resize(enlarged, interpolation=interpolation), T.RandomCrop((height, width))]
        )

    def __call__(self, image: Image) -> Image:
        return self.shifted(image) if _chance(self.p) else self.plain(image)

    def __repr__(self) -> str:
        return f"Random2DTranslation(p={self.p})"


class Cutout:
    """Set `n_holes` squares of edge `length` pixels to zero, in a (3, H, W) tensor."""

    def __init__(self, n_holes: int = 1, length: int = 16) -> None:
        self.n_holes = n_holes
        self.length = length

    def __call__(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        holed = image.clone()
        for _ in range(self.n_holes):
            top = _draw(0, height) - self.length // 2
            left = _draw(0, width) - self.length // 2
            rows, columns = (slice(max(edge, 0), edge + self.length) for edge in (top, left))
            holed[..., rows, columns] = 0
        return holed

    def __repr__(self) -> str:
        return f"Cutout(n_holes={self.n_holes}, length={self.length})"


class GaussianNoise:
    """Add N(mean, std^2) to every value, with probability `p`."""

    def __init__(self, mean: float = 0.0, std: float = 0.15, p: float = 0.5) -> None:
        self.mean = mean
        self.std = std
        self.p = p

    def __call__(self, image: Tensor) -> Tensor:
        if not _chance(self.p):
            return image
        return image + torch.randn_like(image) * self.std + self.mean

    def __repr__(self) -> str:
        return f"GaussianNoise(mean={self.mean}, std={self.std}, p={self.p})"


class InstanceNormalization:
    """Bring every channel of a (3, H, W) image to mean 0 and standard deviation 1."""

    def __init__(self, eps: float = 1e-8) -> None:
        self.eps = eps

    def __call__(self, image: Tensor) -> Tensor:
        mean = image.mean(dim=(-2, -1), keepdim=True)
        std = image.std(dim=(-2, -1), keepdim=True)
        return (image - mean) / (std + self.eps)

    def __repr__(self) -> str:
        return "InstanceNormalization()"
