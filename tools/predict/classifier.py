"""`Classifier`: a trained method that names the class of images."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from typing import Any, NamedTuple, TypeAlias

import torch
from PIL.Image import Image
from torch import Tensor
from yacs.config import CfgNode

from dassl.data.transforms import build_transform
from dassl.utils import read_image
from dassl.utils.depth import UnknownDepth
from dassl.utils.images import as_rgb
from tools.predict.images import batches
from training.method import Method
from training.precision import Precision

ImageLike: TypeAlias = str | PathLike[str] | Image
SLACK = 0.05  # of normalized values: what half precision, or a change of size, adds
HINTS = {
    "ndarray": (
        ": give Image.fromarray(array) for each, of uint8 (H, W, 3) in the order red, green, blue "
        "(OpenCV has blue first: array[..., ::-1])"
    ),
    "Tensor": " in a list: give torch.stack(list) of what `transform` made",
}


class Prediction(NamedTuple):
    """A class, and how likely it is to be the image's: from 0 to 1, over all classes 1."""

    label: int
    name: str
    probability: float


class Classifier:
    """Made by `tools.predict.load`.

    classes: names in the order of their labels, C of them
    seen: whether they are those that were trained on
    transform: from a PIL image to the tensor (3, H, W) that the method takes
    text_features: (C, E), normalised; None for a method that makes them for each image
    upright: whether images are turned as their EXIF orientation says, as in the run
    tilted: paths given to `stream` of images whose EXIF orientation was ignored
    batch_size: images at a time, as in the tests of the run; may be set
    """

    def __init__(
        self,
        cfg: CfgNode,
        precision: Precision,
        method: Method,
        text_features: Tensor | None,
        classes: list[str],
        seen: bool,
        remedy: str,
    ):
        self.cfg = cfg
        self.trainer_name = cfg.TRAINER.NAME
        self.device = precision.device
        self.method = method
        self.text_features = text_features
        self.classes = classes
        self.seen = seen
        self.transform: Any = build_transform(self.cfg, is_train=False)
        self.batch_size = self.cfg.DATALOADER.TEST.BATCH_SIZE
        self.upright = self.cfg.INPUT.EXIF_ORIENTATION == "apply"
        self.tilted: list[str] = []
        self.remedy = remedy
        self._autocast = precision.autocast

    def __call__(
        self, images: ImageLike | Sequence[ImageLike] | Tensor, topk: int = 5
    ) -> list[list[Prediction]]:
        """For each of N images its `topk` most likely classes (all, if there are fewer).

        Args:
            images: as for `logits`.

        Returns:
            A list of N lists of `Prediction` (label, name, probability), the likeliest first.
        """
        return self.top(self.probabilities(images), topk)

    def probabilities(self, images: ImageLike | Sequence[ImageLike] | Tensor) -> Tensor:
        """(N, C), rows with sum 1, in float32 on the CPU; `images` as for `logits`."""
        return self.logits(images).softmax(dim=1)

    @torch.inference_mode()
    def logits(self, images: ImageLike | Sequence[ImageLike] | Tensor) -> Tensor:
        """The method's logits (N, C), in float32 on the CPU.

        Args:
            images: paths or PIL images, one or a list of N; or a tensor made by
                `transform`: (N, 3, H, W), or (3, H, W) for one.

        Raises:
            OSError: an image is missing, damaged, or not of 8 or 16 bits for certain.
            TypeError, ValueError: `images` is something else.
            FloatingPointError: logits are infinite or NaN, which is no prediction.
        """
        parts = [self._classify(batch) for batch in self._tensors(images)]
        logits = torch.cat(parts) if parts else torch.empty(0, len(self.classes))
        if lacking := int((~_has_prediction(logits)).sum()):
            raise FloatingPointError(
                f"{lacking} of {len(logits)} images have no answer: their logits are infinite or "
                f"NaN. {self.remedy}"
            )
        return logits

    @torch.inference_mode()
    def stream(
        self, paths: Sequence[str], topk: int = 5, workers: int | None = None
    ) -> Iterator[tuple[str, list[Prediction] | str]]:
        """For each path its predictions, or the reason (a text) why there is none.

        Reads with `workers` processes; by default as many as help.
        """
        left = iter(paths)
        self.tilted = []
        for batch in batches(paths, self.transform, self.batch_size, self.upright, workers):
            good = [image for image, _ in batch if isinstance(image, Tensor)]
            predictions = iter(self._top_or_why(torch.stack(good), topk) if good else ())
            for image, tilted in batch:
                path = next(left)
                self.tilted += [path] * tilted
                yield path, next(predictions) if isinstance(image, Tensor) else image

    def top(self, probabilities: Tensor, topk: int) -> list[list[Prediction]]:
        """The likeliest classes for each row of probabilities (N, C)."""
        if topk < 1:
            raise ValueError(f"topk is {topk}; allowed is a number of classes from 1")
        best = probabilities.topk(min(topk, len(self.classes)), dim=1)
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return [
            [Prediction(label, self.classes[label], p) for label, p in zip(*pair, strict=True)]
            for pair in pairs
        ]

    def _top_or_why(self, images: Tensor, topk: int) -> list[list[Prediction] | str]:
        logits = self._classify(images)
        why = f"no answer, its logits are infinite or NaN. {self.remedy}"
        found = zip(self.top(logits.softmax(dim=1), topk), _has_prediction(logits), strict=True)
        return [best if is_one else why for best, is_one in found]

    def _classify(self, images: Tensor) -> Tensor:
        with self._autocast():
            logits = self.method.classify(images.to(self.device), self.text_features, self.seen)
        return logits.float().cpu()

    def _tensors(self, images: ImageLike | Sequence[ImageLike] | Tensor) -> Iterator[Tensor]:
        if isinstance(images, Tensor):
            yield from self._checked(images).split(self.batch_size)
            return
        one = isinstance(images, str | PathLike | Image) or not isinstance(images, Iterable)
        given: list[Any] = [images] if one else list(images)  # type: ignore[arg-type]
        for start in range(0, len(given), self.batch_size):
            part = given[start : start + self.batch_size]
            yield torch.stack([self.transform(_opened(image, self.upright)) for image in part])

    def _checked(self, images: Tensor) -> Tensor:
        images = images[None] if images.dim() == 3 else images
        size = tuple(self.cfg.INPUT.SIZE)
        if images.dim() != 4 or images.shape[1:] != (3, *size) or not images.is_floating_point():
            raise ValueError(
                f"a tensor of images must be (N, 3, {size[0]}, {size[1]}) and of numbers with a "
                f"point, as `transform` makes them; this is {tuple(images.shape)}, {images.dtype}"
            )
        self._check_range(images)
        return images

    def _check_range(self, images: Tensor) -> None:
        """ValueError for values that `transform` cannot make, such as those from 0 to 255."""
        node = self.cfg.INPUT
        if "instance_norm" in node.TRANSFORMS or not len(images):
            return
        low, high = torch.zeros(3), torch.ones(3)
        if "normalize" in node.TRANSFORMS:
            mean, std = torch.tensor(node.PIXEL_MEAN), torch.tensor(node.PIXEL_STD)
            low, high = (low - mean) / std, (high - mean) / std
        least, most = (f(images, dim=(0, 2, 3)).float().cpu() for f in (torch.amin, torch.amax))
        if not ((least >= low - SLACK) & (most <= high + SLACK)).all():
            raise ValueError(
                f"a tensor of images has values from {least.min():.4g} to {most.max():.4g}, but "
                f"`transform` makes {low.min():.4g} to {high.max():.4g}: give what it makes of PIL "
                "images, as in torch.stack([clf.transform(image) for image in images])"
            )
        if "normalize" in node.TRANSFORMS and (least >= 0).all() and (most <= 1).all():
            warnings.warn(
                "a tensor of images has values from 0 to 1 only: was it normalized, as "
                "`transform` does?",
                stacklevel=5,
            )


def _has_prediction(logits: Tensor) -> Tensor:
    """Which rows of logits (N, C) have a prediction; classes may be ruled out by minus infinity."""
    return logits.amax(dim=1).isfinite()


def _opened(image: ImageLike, upright: bool) -> Image:
    if isinstance(image, Image):
        try:
            return as_rgb(image, upright)
        except UnknownDepth as error:
            raise OSError(f"Cannot take a PIL image ({error}). {error.remedy}") from error
    if isinstance(image, str | PathLike):
        return read_image(image, upright)
    kind = type(image).__name__
    hint = HINTS.get(kind, "")
    raise TypeError(f"an image must be a path, a PIL image or a tensor, not {kind}{hint}")
