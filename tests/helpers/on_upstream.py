"""Trains our methods as on upstream's engine: `python -m tests.helpers.on_upstream DATA OUT`.

Our rooms may import what `tests.helpers.upstream` lists and nothing else of the engine, and
trainers find only upstream's members on themselves, as far as the engine's own code does not need
more.
"""

import builtins
import sys
from pathlib import Path
from typing import Any

from tests.helpers import upstream

ROOMS = ("run", "trainers", "training", "datasets", "frozen_clip", "common")
TRAINERS = sorted(file.parent.name for file in Path("configs/trainers").glob("*/small.yaml"))
OURS = ("trainers.", "training.")
plain_import = builtins.__import__


def upstreams_import(name, globals=None, locals=None, fromlist=(), level=0) -> Any:
    importer = (globals or {}).get("__name__", "").partition(".")[0]
    if importer in ROOMS and level == 0 and name.partition(".")[0] == "dassl":
        if name not in upstream.NAMES:
            raise ImportError(f"upstream has no module {name}")
        missing = set(fromlist or ()) - upstream.NAMES[name]
        if missing:
            raise ImportError(f"upstream has no {sorted(missing)} in {name}")
    return plain_import(name, globals, locals, fromlist, level)


def upstreams_members(trainer: Any, name: str) -> Any:
    """`getattr` of files in trainers/ and training/, for whom only upstream's members are there."""
    if sys._getframe(1).f_globals["__name__"].startswith(OURS):
        theirs = [cls for cls in type(trainer).__mro__ if cls.__module__.startswith("dassl.")]
        ours = [cls for cls in type(trainer).__mro__ if cls.__module__.startswith(OURS)]
        known = any(name in vars(cls) for cls in ours) or name in upstream.TRAINER_MEMBERS
        if not known and any(name in vars(cls) for cls in theirs):
            raise AttributeError(f"upstream's trainers have no {name}")
    return object.__getattribute__(trainer, name)


def config(name: str, toy: Path, output: Path, *opts: object) -> Any:
    """As a train.py of the CoOp family makes it."""
    from dassl.config import get_cfg_default
    from run.config import extend_cfg
    from tools.flatten import flattened

    cfg = get_cfg_default()
    extend_cfg(cfg)
    cfg.merge_from_file("configs/datasets/colored_shapes.yaml")
    flat = output / f"{name}.yaml"
    flat.write_text(flattened(Path(f"configs/trainers/{name}/small.yaml")))
    cfg.merge_from_file(str(flat))
    cfg.merge_from_list(["DATASET.ROOT", str(toy), "OUTPUT_DIR", str(output / name), "SEED", 1])
    cfg.merge_from_list(["TRAINER.NAME", name, "MODEL.BACKBONE.NAME", str(toy / "narrow.pt")])
    cfg.merge_from_list(["TASK", "B2N", "DATASET.NUM_SHOTS", 1, "OPTIM.MAX_EPOCH", 1, *opts])
    cfg.freeze()
    return cfg


def refuse(cfg: Any) -> None:
    from dassl.engine import build_trainer

    try:
        build_trainer(cfg)
    except ValueError as error:
        assert "counts steps, and the engine that is installed counts epochs" in str(error), error
    else:
        raise AssertionError(f"{cfg.TRAINER.NAME} was built")


def main(toy: Path, output: Path) -> None:
    builtins.__import__ = upstreams_import
    from dassl.engine import build_trainer
    from training.trainer import CLIPTrainer

    CLIPTrainer.__getattribute__ = upstreams_members
    for name in TRAINERS:
        cfg = config(name, toy, output)
        if cfg.OPTIM.LR_SCHEDULER == "cosine_per_step":  # upstream does not know it
            refuse(cfg)
            continue
        trainer = build_trainer(cfg)
        trainer.train()
        assert len(trainer.test_loader.dataset) == 18
        if trainer.model_name:
            trainer.load_model(str(output / name), epoch=1)
            trainer.test()
    try:
        build_trainer(config("MMRL", toy, output, "DATASET.NAME", "DescribableTextures"))
    except ValueError as error:
        assert "TRAINER.MMRL.REG_WEIGHT 6.0" in str(error), error
    else:
        raise AssertionError("another weight than the paper's was taken")
    advice = ("DATASET.NAME", "DescribableTextures", "TRAINER.MMRL.REG_WEIGHT", 6.0)
    try:
        build_trainer(config("MMRL", toy, output, *advice))
    except FileNotFoundError:  # past that check; the data set is not there
        print("all ran")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
