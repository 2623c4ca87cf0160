"""A trained method on images; the command is `python -m tools.predict`.

    from tools.predict import load
    clf = load("output/mine")
    clf(["one.jpg", "two.jpg"])

`load` needs the run's directory and CLIP's weights, no dataset. See `load` and, for what it gives,
`tools.predict.classifier.Classifier`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tools.predict.classifier import Classifier

__all__ = ["load"]


def load(
    run: str | PathLike[str],
    *,
    classes: Sequence[str] | None = None,
    template: str | None = None,
    device: str | None = None,
    precision: str | None = None,
    epoch: int | None = None,
    backbone: str | None = None,
    exif_orientation: str | None = None,
    root: str | None = None,
    plugins: Iterable[str] = (),
    plugin_paths: Iterable[str] = (),
    cache: bool = True,
) -> Classifier:
    """The method that a training run of `train.py` left in its directory, ready for images.

    Args:
        classes: names to choose from instead of those that were trained on. They are predicted
            as unseen classes are: by class features alone.
        template: the template for the names, with one {}, instead of the run's.
        device: 'auto', 'cpu', 'cuda', 'cuda:1', 'mps' or 'xpu'; by default 'auto', the
            accelerator that is there, CUDA first, else the CPU.
        precision: 'fp32', 'amp' or 'fp16'; by default the run's, and fp32 where a GPU's half
            precision was asked for and there is none.
        epoch: the checkpoint to load; by default the one that was tested.
        backbone: CLIP's weights, where they are no longer what the run's config says.
        exif_orientation: 'apply' turns images upright as their cameras noted, 'ignore' does not;
            by default what the run did.
        root: directory of the datasets; read only for the names of a run without `classes.json`.
        plugins, plugin_paths: what the run was given with --plugin and --plugin-path.
        cache: keep the text features in the run's directory, and take them from there.

    Raises:
        FileNotFoundError, ValueError: there is no such run, or it does not fit what is asked for.
        FloatingPointError: the text features of a class are infinite or NaN.
    """
    from tools.predict.build import build_classifier  # late: --help must not wait for torch

    return build_classifier(
        run,
        classes=classes,
        template=template,
        epoch=epoch,
        cache=cache,
        device=device,
        precision=precision,
        backbone=backbone,
        exif_orientation=exif_orientation,
        root=root,
        plugins=plugins,
        plugin_paths=plugin_paths,
    )
