r"""Train or test one method on one data set.

    python train.py --root DATA --trainer MMRL --seed 1 \
        --dataset-config-file configs/datasets/caltech101.yaml \
        --config-file configs/trainers/MMRL/vit_b16.yaml \
        --output-dir output/my_run TASK B2N DATASET.NUM_SHOTS 16 DATASET.SUBSAMPLE_CLASSES base

Everything behind the flags is `KEY VALUE ...` of the config and wins over all else.
`torchrun --nproc-per-node N train.py ...` is the same run on N devices.
"""

import argparse
import sys
import time
from functools import cache, partial
from os.path import expanduser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dassl.utils.distributed import barrier, is_main, processes, report_once, world_size
from run.command import Parser, piped, printing_stops_nothing

if TYPE_CHECKING:
    from yacs.config import CfgNode

    from dassl.engine import SimpleTrainer


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(prog="python train.py", description=__doc__)
    add = parser.add_argument
    add_path = partial(add, type=expanduser)  # shells leave ~ alone in --flag=~/here
    add_path("--root", help="folder of the data sets (DATASET.ROOT)")
    add_path("--output-dir", help="folder of this run (OUTPUT_DIR)")
    add_path("--resume", help="continue the run in this folder (RESUME)")
    add("--seed", type=int, help="seed of everything random; negative: not seeded (SEED)")
    add("--source-domains", nargs="+", help="source domains (DATASET.SOURCE_DOMAINS)")
    add("--target-domains", nargs="+", help="target domains (DATASET.TARGET_DOMAINS)")
    add("--transforms", nargs="+", help="augmentations (INPUT.TRANSFORMS)")
    add_path("--config-file", default="", help="YAML of the trainer's settings")
    add_path("--dataset-config-file", default="", help="YAML of the data set")
    add("--trainer", help="name of the method (TRAINER.NAME)")
    text = "file with a method or data set; repeatable"
    add_path("--plugin", action="append", default=[], help=text)
    text = "folder its imports try first; repeatable"
    add_path("--plugin-path", action="append", default=[], help=text)
    text = "CLIP: a name, file, directory or 'small' (MODEL.BACKBONE.NAME)"
    add_path("--backbone", help=text)
    add("--head", help="name of a head (MODEL.HEAD.NAME)")
    add("--train-epoch", type=int, help="number of epochs (OPTIM.MAX_EPOCH)")
    add("--eval-only", action="store_true", help="test only, with the weights of --model-dir")
    add_path("--model-dir", default="", help="folder of the training run to test")
    add("--load-epoch", type=int, help="epoch to load from --model-dir; default: the newest")
    add("--no-train", action="store_true", help="build everything, then stop")
    add("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="options of the config")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """0 when done, 2 for bad input, 3 for a loss, weight or answer that is infinite or NaN, 75 when
    a signal stopped the run, 130 when Ctrl-C did; after these two the same command continues."""
    with printing_stops_nothing(), processes():
        return exit_code(parse_args(argv))


def exit_code(args: argparse.Namespace) -> int:
    from dassl.utils.stopping import EXIT_STOPPED, Stopped, stop_signals

    try:
        with stop_signals():
            run(args)
    except Stopped:
        return EXIT_STOPPED
    except KeyboardInterrupt as error:
        if is_main():
            print(error.args[0] if error.args else "interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError, FloatingPointError) as error:
        if "debug" in args:
            raise
        code = 3 if isinstance(error, FloatingPointError) else 2
        report_once(f"error: {error}", code)
        return code
    return 0


def run(args: argparse.Namespace) -> None:
    start = time.perf_counter()
    from run.config import build_config  # late: --help must not wait for torch
    from run.identity import planned
    from run.lock import output_lock
    from run.record import missing_folders, remove_empty

    cfg, notes = build_config(args)
    check_data(cfg)
    output = Path(cfg.OUTPUT_DIR)
    check_places(args, cfg, output)
    if not is_main():
        barrier()  # until the first process may use the folder
        run_alone(args, cfg, notes, start)
        return
    made = missing_folders(output)
    try:
        with output_lock(output):
            check_same(args, cfg, planned(cfg, args))  # a run that ends now may change that
            barrier()
            run_alone(args, cfg, notes, start)
    finally:
        remove_empty(made)


def run_alone(args: argparse.Namespace, cfg: "CfgNode", notes: list[str], start: float) -> None:
    """Run what the config says; nobody else uses its output folder."""
    from dassl.utils import Logger, set_random_seed, setup_logger
    from dassl.utils.determinism import deterministic
    from dassl.utils.stopping import Stopped
    from run.config import own_part
    from run.plugin_errors import plugin_faults

    logger = (is_main() and setup_logger(cfg.OUTPUT_DIR)) or Logger()
    trainer = None
    try:
        print_start(args, own_part(cfg), notes)
        with deterministic(cfg.DETERMINISTIC), plugin_faults(cfg.MODEL.BACKBONE.NAME):
            if cfg.SEED >= 0:
                set_random_seed(cfg.SEED)
            trainer, identity = prepare(args, cfg)
            execute(trainer, args, cfg, identity, start)
    except (Stopped, KeyboardInterrupt) as error:
        logger.note(f"{error}\n")
        raise
    except (ValueError, OSError, FloatingPointError) as error:
        logger.note(f"error: {error}\n")  # the terminal gets it from main
        if trainer is None and logger.file:  # refused: as if it had not been tried
            Path(logger.file.name).unlink(missing_ok=True)
        raise
    finally:
        logger.close()


def check_places(args: argparse.Namespace, cfg: "CfgNode", output: Path) -> None:
    """What can be said of the run's folders before anything is written."""
    from run.record import check_output, check_resume

    check_output(output)
    if not args.eval_only:
        check_resume(cfg)
        check_training(cfg)


def check_training(cfg: "CfgNode") -> None:
    """Let the trainer say what it lacks for training before anything is written or printed."""
    from dassl.engine import TRAINER_REGISTRY

    check = getattr(TRAINER_REGISTRY.get(cfg.TRAINER.NAME), "check_training", None)
    if check:  # those built on ours
        check(cfg)


def check_data(cfg: "CfgNode") -> None:
    """Let the data set say what is missing before anything is written or printed."""
    from dassl.data.datasets import DATASET_REGISTRY
    from run.plugins import check_registered

    check_registered(DATASET_REGISTRY, cfg.DATASET.NAME, "data set (DATASET.NAME)")
    check_present = getattr(DATASET_REGISTRY.get(cfg.DATASET.NAME), "check_present", None)
    if check_present:
        check_present(cfg)


def check_same(args: argparse.Namespace, cfg: "CfgNode", identity: dict[str, Any]) -> None:
    """ValueError if the folder of the run, or of the one it continues, holds another run."""
    from run.identity import check_continues, default_settings
    from run.record import holds_checkpoints

    output = Path(cfg.OUTPUT_DIR)
    defaults = cache(lambda: default_settings(args.plugin, args.plugin_path))
    check_continues(identity, output, defaults)
    if cfg.RESUME and not args.eval_only and not holds_checkpoints(output):
        remedy = "Continue it with its own settings, or leave out --resume to train afresh"
        check_continues(identity, Path(cfg.RESUME), defaults, remedy)


def print_start(args: argparse.Namespace, cfg: "CfgNode", notes: list[str]) -> None:
    from dassl.utils import collect_env_info
    from run.config import repeated
    from run.plugins import described

    print("** Arguments **")
    for name, value in sorted(vars(args).items()):
        print(f"{name}: {value}")
    for line in repeated(args):
        print(f"Note: {line}")
    print(f"** Config **\n{cfg}")
    for note in notes:
        print(f"per data set: {note}")
    for plugin in described(args.plugin):
        taken = "".join(f", in place of our {name}" for name in plugin["replaces"])
        print(f"plugin: {plugin['file']} (SHA-256 {plugin['sha256']}){taken}")
    print(f"** System **\n{collect_env_info()}")
    if world_size() > 1:
        print(f"Processes: {world_size()}, each with its shard of every batch")


def prepare(args: argparse.Namespace, cfg: "CfgNode") -> "tuple[SimpleTrainer, dict[str, Any]]":
    """The trainer, built, with the weights that it is to test, and what run this is; nothing is
    written."""
    from dassl.data.sharding import BatchSharding
    from dassl.engine import build_trainer
    from run.identity import identity_of

    trainer = build_trainer(cfg)
    if args.eval_only:
        load_weights(trainer, args)
    elif trainer.get_model_names():
        BatchSharding(trainer.train_loader_x).check_equal_shards()
    identity = identity_of(trainer, args)
    check_same(args, cfg, identity)  # now with the data
    return trainer, identity


def execute(
    trainer: "SimpleTrainer",
    args: argparse.Namespace,
    cfg: "CfgNode",
    identity: dict[str, Any],
    start: float,
) -> None:
    """Test or train, and leave the record of it."""
    from run.config import own_part
    from run.details import details
    from run.identity import write_identity
    from run.record import (
        forget_results,
        holds_checkpoints,
        write_classes,
        write_config,
        write_results,
    )
    from run.recorder import RunRecorder

    recorder, output = RunRecorder(trainer, start), Path(cfg.OUTPUT_DIR)
    trainer.register_hook(recorder)
    writes = is_main()
    if writes and not (
        args.eval_only and holds_checkpoints(output)
    ):  # what it was trained with stays
        write_config(own_part(cfg), output)
        write_identity(identity, output)
        write_classes(trainer, output)
    if args.no_train and not args.eval_only:
        return
    if writes:
        forget_results(output)
    if args.eval_only:
        trainer.test()
    else:
        trainer.train()
    if writes and "accuracy" in recorder.results:
        write_results(cfg, recorder.results, output, **identity)  # kept, whatever details may meet
        more = details(recorder, output, args.eval_only)
        write_results(cfg, recorder.results, output, **identity, **more)


def load_weights(trainer: "SimpleTrainer", args: argparse.Namespace) -> None:
    """Load what --eval-only is to test; ValueError if a method that learns is given nothing."""
    learned = trainer.get_model_names()
    if learned and not args.model_dir:
        raise ValueError(
            f"--eval-only tests trained weights, but no --model-dir was given, the folder of a "
            f"training run that holds {learned[0]}/. To train, leave out --eval-only"
        )
    if learned:
        trainer.load_model(args.model_dir, epoch=args.load_epoch)


if __name__ == "__main__":
    sys.exit(piped(main))
