"""Images of a list, read and transformed one by one."""

from collections.abc import Callable, Sequence
from typing import Any

from torch.utils.data import Dataset
from torchvision import transforms as T
from yacs.config import CfgNode

from dassl.utils import read_image

from .datasets import Datum
from .seeding import SeededFetching
from .transforms import INTERPOLATION_MODES

Transform = Callable[[Any], Any]


class DatasetWrapper(SeededFetching, Dataset[dict[str, Any]]):
    """Images of a list as dicts: img, label, domain, impath, index.

    With several transforms there are also img2, img3..., one for each. With
    DATALOADER.K_TRANSFORMS above 1 (training only) each of these is the list of K views; with
    RETURN_IMG0 there is also img0, the image without augmentation. A subclass need only bring its
    own `__getitem__`.
    """

    def __init__(
        self,
        cfg: CfgNode,
        data_source: Sequence[Datum],
        transform: Transform | Sequence[Transform] | None = None,
        is_train: bool = False,
    ) -> None:
        """
        Args:
            transform: from PIL image to tensor; None: images stay PIL.

        Raises:
            ValueError: several views are wanted, but there is no transform to make them.
        """
        self.cfg = cfg
        self.data_source = data_source
        self.transform = transform
        self.is_train = is_train
        self.k_tfm = cfg.DATALOADER.K_TRANSFORMS if is_train else 1
        self.return_img0 = cfg.DATALOADER.RETURN_IMG0
        self.upright = cfg.INPUT.EXIF_ORIENTATION == "apply"
        self.to_tensor = _plain_transform(cfg)
        if self.k_tfm > 1 and transform is None:
            raise ValueError(
                f"DATALOADER.K_TRANSFORMS is {self.k_tfm}, but there is no transform to make "
                "views with: is INPUT.NO_TRANSFORM set?"
            )

    def __len__(self) -> int:
        return len(self.data_source)

    def __getitem__(self, idx: int) -> dict[str, Any]:
        item = self.data_source[idx]
        image = read_image(item.impath, self.upright)
        output = {
            "label": item.label,
            "domain": item.domain,
            "impath": item.impath,
            "index": int(idx),
        }
        for number, made in enumerate(self._made_of(image), start=1):
            output["img" if number == 1 else f"img{number}"] = made
        if self.return_img0:
            output["img0"] = self.to_tensor(image)
        return output

    def _made_of(self, image: Any) -> list[Any]:
        """Return what each transform makes of the image."""
        if self.transform is None:
            return [image]
        transform: Any = self.transform
        transforms = transform if isinstance(transform, list | tuple) else [transform]
        return [self._transform_image(tfm, image) for tfm in transforms]

    def _transform_image(self, tfm: Transform, img0: Any) -> Any:
        """Return one view of the image, or the list of K_TRANSFORMS views."""
        views = [tfm(img0) for _ in range(self.k_tfm)]
        return views if len(views) > 1 else views[0]


def _plain_transform(cfg: CfgNode) -> T.Compose:
    """Return resize to INPUT.SIZE, to tensor and, if the configuration has it, normalize."""
    interpolation = INTERPOLATION_MODES[cfg.INPUT.INTERPOLATION]
    steps = [T.Resize(tuple(cfg.INPUT.SIZE), interpolation=interpolation), T.ToTensor()]
    if "normalize" in cfg.INPUT.TRANSFORMS:
        steps.append(T.Normalize(list(cfg.INPUT.PIXEL_MEAN), list(cfg.INPUT.PIXEL_STD)))
    return T.Compose(steps)
