"""Building and running real trainers on a tiny CLIP and a handful of pictures."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import train
from dassl.engine import TRAINER_REGISTRY, build_trainer
from dassl.utils import set_random_seed
from frozen_clip import described, reference
from run.config import build_config, default_config

REPO = Path(__file__).parents[2]
CLASSES = ("red circle", "red square", "blue circle", "blue square", "green star", "pink ring")
COUNTS = {"train": 4, "val": 2, "test": 3}
SAVE = ("TEST.SAVE_PREDICTIONS", "True")
CLIPS = {
    "narrow": {"layers": (4, 3)},
    "wide": {"vision_width": 128, "embed": 48, "patch": 8, "layers": (3, 4)},
}


@cache
def trainer_names() -> list[str]:
    default_config()
    return [n for n in TRAINER_REGISTRY.registered_names() if (variant(n)).is_file()]


def variant(trainer: str, name: str = "small") -> Path:
    """The YAML file of a trainer, or that of the one it is built on."""
    folder = REPO / "configs" / "trainers"
    if not (folder / trainer).is_dir():
        default_config()  # registers it
        known = (cls.__name__ for cls in TRAINER_REGISTRY.get(trainer).__mro__)
        trainer = next((parent for parent in known if (folder / parent).is_dir()), trainer)
    return folder / trainer / f"{name}.yaml"


def write_clips(folder: Path) -> None:
    """<folder>/narrow.pt and wide.pt: random CLIPs of different widths and depths."""
    for name, sizes in CLIPS.items():
        torch.save(described(reference.random_clip(**sizes)), folder / f"{name}.pt")


def write_pictures(root: Path) -> None:
    """A data set in the demo's layout: noise around one colour per class."""
    rng = np.random.default_rng(0)
    splits = {}
    for split, count in COUNTS.items():
        splits[split] = []
        for label, name in enumerate(CLASSES):
            for i in range(count):
                path = f"{name.replace(' ', '_')}/{split}_{i}.png"
                file = root / "colored_shapes" / "images" / path
                file.parent.mkdir(parents=True, exist_ok=True)
                colour = np.array([40 * label, 255 - 40 * label, 128])
                pixels = np.clip(colour + rng.normal(0, 40, (40, 40, 3)), 0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(file)
                splits[split].append([path, label, name])
    (root / "colored_shapes" / "split_zhou_ColoredShapes.json").write_text(json.dumps(splits))


def command(
    toy: Path, trainer: str, output: Path, *flags: str, clip: str = "narrow", opts: tuple = ()
) -> list[str]:
    """The arguments of train.py for a short run on the base classes."""
    backbone = clip if clip == "small" else str(toy / f"{clip}.pt")
    return [
        *("--root", str(toy), "--output-dir", str(output), "--seed", "1", "--trainer", trainer),
        *("--dataset-config-file", str(REPO / "configs/datasets/colored_shapes.yaml")),
        *("--config-file", str(variant(trainer)), "--backbone", backbone, *flags),
        *("TASK", "B2N", "DATASET.SUBSAMPLE_CLASSES", "base", "DATASET.NUM_SHOTS", "2"),
        *("OPTIM.MAX_EPOCH", "2", "DATALOADER.TRAIN_X.BATCH_SIZE", "3", *opts),
    ]


def config(*arguments: str):
    """The configuration of a command line, and the notes on what is particular to its data set."""
    return build_config(train.parse_args(list(arguments)))


def refused(capsys, arguments: list[str]) -> str:
    """The message of a command that must fail; no traceback, one screen."""
    assert train.main(arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") < 25
    return message


def build(arguments: list[str]):
    """The trainer of a command line, built and not yet trained."""
    cfg, _ = config(*arguments)
    set_random_seed(cfg.SEED)
    return build_trainer(cfg)


def state_of(trainer) -> dict[str, torch.Tensor]:
    """A copy of what the method has learned."""
    return {name: value.clone() for name, value in trainer.method.learner.state_dict().items()}


def classify(trainer) -> torch.Tensor:
    """Logits of the whole test split."""
    trainer.set_model_mode("eval")
    with torch.inference_mode():
        batches = [trainer.parse_batch_test(batch)[0] for batch in trainer.test_loader]
        return torch.cat([trainer.model_inference(images) for images in batches])
