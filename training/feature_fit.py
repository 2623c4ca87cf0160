"""Methods that are fitted to image features of the frozen CLIP: no epochs, no optimizer of Dassl's.

Every image is read once (or once a view), its feature kept, and the method is fitted to all of them
at once. To the engine that is one epoch.
"""

from collections.abc import Sequence
from random import Random
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dassl.data.data_manager import build_data_loader
from dassl.data.transforms import build_transform
from dassl.utils import set_random_seed
from training.class_bound import ClassBoundMethod
from training.stored_features import features_of
from training.trainer import CLIPTrainer


class Features(NamedTuple):
    """Image features of the frozen CLIP, in float32."""

    f: Tensor  # (N, E), not normalized
    labels: Tensor  # (N)


@torch.no_grad()
def image_features(trainer: CLIPTrainer, items: Sequence[Any], view: int | None = None) -> Features:
    """Features of a list of images, in its order, as they are for a test; with a `view`, of that
    number of random views as in training, which is the same in every run of one seed.

    FloatingPointError if one is infinite or NaN.
    """
    cfg = trainer.cfg.clone()
    cfg.defrost()
    cfg.VERBOSE = False  # the transforms were printed when the loaders were built
    loader = build_data_loader(
        cfg,
        sampler_type="SequentialSampler",
        data_source=items,
        batch_size=cfg.DATALOADER.TEST.BATCH_SIZE,
        tfm=build_transform(cfg, is_train=view is not None),
        is_train=False,
    )
    keep = True
    if view is not None:
        seed = cfg.SEED if cfg.SEED >= 0 else int(torch.randint(2**62, ()))
        keep = _seed(loader, Random(f"{seed} {view}").getrandbits(62)) and cfg.SEED >= 0
    f = features_of(trainer, loader, None if view is None else [cfg.SEED, view], keep)
    if bad := int((~f.isfinite()).any(dim=1).sum()):
        advice = trainer.precision.remedy(trainer.settings.key("PREC"), learns=False)
        raise FloatingPointError(
            f"the features of {bad} of {len(f)} images are infinite or NaN, so nothing can be "
            f"fitted to them. {advice}"
        )
    labels = torch.tensor([item.label for item in items])
    return Features(f.to(trainer.device), labels.to(trainer.device))


def validation_images(dataset: Any) -> list[Any]:
    """The validation images, as far as they are not the test images, as ImageNet's are here."""
    tested = {image.impath for image in dataset.test}
    return [image for image in dataset.val or [] if image.impath not in tested]


def _seed(loader: Any, seed: int) -> bool:
    """Let the loader's random views come from a seed; whether they depend on nothing else."""
    try:
        from dassl.data.seeding import set_loader_seed

        set_loader_seed(loader, seed)
        return True
    except ImportError:  # upstream's engine draws from the global generators, and in workers
        set_random_seed(seed % 2**32)
        return False


class FeatureFitMethod(ClassBoundMethod):
    """A method with `fit` in place of losses."""

    views: int | None = None  # how many random views of a training image; None: as in a test

    def fit(self, train: Sequence[Features], val: Features | None) -> None:
        """Set the learner by the features of the training images, view by view, and of the
        validation images, if there are any."""
        raise NotImplementedError


class FeatureFit(CLIPTrainer):
    """Trains by one call of its method's `fit`."""

    Method: type[FeatureFitMethod]
    method: Any
    needs_layers = False
    learns_classes = True
    trains_on_batches = False

    def _register_learner(self) -> None:
        learner = self.method.learner
        count = sum(p.numel() for p in learner.parameters() if p.requires_grad)
        print(f"Learner: {count:,} fitted parameters")
        self.max_epoch = 1
        self.register_model(self.model_name, learner)

    def run_epoch(self) -> None:
        """Compute the features, and fit."""
        self.set_model_mode("eval")
        self.num_batches = 1
        data, views = self.dm.dataset, self.method.views
        numbers = [None] if views is None else range(views)
        what = "" if views is None else f", random views of each: {views}"
        print(f"Image features of {len(data.train_x)} training images{what}")
        train = [image_features(self, data.train_x, view) for view in numbers]
        val = validation_images(data)
        self.method.fit(train, image_features(self, val) if val else None)
