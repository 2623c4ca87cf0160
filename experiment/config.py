"""The config of a run, from the engine's defaults to the last `KEY VALUE` of the command.

Later ones win:

    engine defaults < each trainer's `add_config` < data set YAML < trainer YAML
    < `per_dataset.yaml` beside it, by TASK and data set < flags < KEY VALUE ...
"""

import difflib
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path

from yacs.config import CfgNode

from dassl.config import clean_cfg, get_cfg_default
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import check_availability
from experiment.flat import flatten
from experiment.plugins import import_plugins, told
from experiment.values import check_values
from trainers.yaml_files import read_yaml

KINDS = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a text",
    tuple: "a list",
    list: "a list",
}
FLAG_KEYS = {
    "root": "DATASET.ROOT",
    "output_dir": "OUTPUT_DIR",
    "resume": "RESUME",
    "seed": "SEED",
    "source_domains": "DATASET.SOURCE_DOMAINS",
    "target_domains": "DATASET.TARGET_DOMAINS",
    "transforms": "INPUT.TRANSFORMS",
    "trainer": "TRAINER.NAME",
    "backbone": "MODEL.BACKBONE.NAME",
    "head": "MODEL.HEAD.NAME",
    "train_epoch": "OPTIM.MAX_EPOCH",
}


def default_config(plugins: Iterable[str] = ()) -> CfgNode:
    """All keys that exist, with their defaults; registers every trainer and data set."""
    cfg = get_cfg_default()
    extend_cfg(cfg, plugins)
    return cfg


def extend_cfg(cfg: CfgNode, plugins: Iterable[str] = ()) -> None:
    """Add what the engine's config lacks for the trainers and data sets, and register these.

    plugins: files from elsewhere that are to be registered too
    """
    cfg.DEVICE = "auto"  # cpu, cuda, cuda:N, mps, xpu or xpu:N; auto: the accelerator, else cpu
    cfg.TASK = ""  # the protocol: B2N, FS or CD
    cfg.TRAIN.COMPILE = False  # True: torch.compile for training steps; on CUDA as graphs
    cfg.DETERMINISTIC = False  # True: ask torch for deterministic algorithms
    cfg.MODEL.BACKBONE.ACTIVATION = ""  # of a CLIP that does not say it: quick_gelu or gelu
    cfg.MODEL.BACKBONE.HEADS = []  # likewise: attention heads of the vision and the text tower
    cfg.DATASET.SUBSAMPLE_CLASSES = "all"  # all, base or new
    cfg.DATASET.PATH = ""  # ImageFolder: the folder of pictures
    cfg.DATASET.TEMPLATE = ""  # replaces the data set's own sentence, e.g. 'a photo of a {}.'
    cfg.TEST.SAVE_PREDICTIONS = False  # write predictions.csv: the answer to every test picture
    for module in import_plugins(plugins):
        if hasattr(module, "add_config"):
            told(Path(module.__file__), module.add_config, cfg)


def build_config(args: Namespace) -> tuple[CfgNode, list[str]]:
    """The frozen config of a command line, and a line for each key `per_dataset.yaml` set.

    Raises ValueError or FileNotFoundError that names the file or flag, the key and, where
    there is one, the key that was probably meant.
    """
    cfg = default_config(getattr(args, "plugin", ()))
    for file in (args.dataset_config_file, args.config_file):
        if file:
            merge_file(cfg, Path(file))
    final = _with_command_line(cfg.clone(), args)  # TASK and the data set may stand there
    notes = []
    if args.config_file:
        table = Path(args.config_file).parent / "per_dataset.yaml"
        notes = merge_per_dataset(cfg, table, final.TASK, final.DATASET.NAME)
    cfg = _with_command_line(cfg, args)
    known = TRAINER_REGISTRY.registered_names()
    check_availability(cfg.TRAINER.NAME, known, what="trainer (--trainer)")
    if args.config_file:
        check_whose(cfg, Path(args.config_file))
    check_values(cfg)
    cfg.freeze()
    return cfg, notes


def _with_command_line(cfg: CfgNode, args: Namespace) -> CfgNode:
    for flag, key in FLAG_KEYS.items():
        value = getattr(args, flag, None)
        if value is not None:
            set_key(cfg, key, value, f"--{flag.replace('_', '-')}")
    if len(args.opts) % 2:
        raise ValueError(
            f"the options at the end must be pairs KEY VALUE, but {args.opts[-1]!r} stands alone: "
            "give every key a value"
        )
    for key, text in zip(args.opts[::2], args.opts[1::2], strict=True):
        if key.startswith("-"):
            raise ValueError(f"unknown flag {key!r}; see python train.py --help")
        set_key(cfg, key, text, "the command line")
    return cfg


def own_part(cfg: CfgNode) -> CfgNode:
    """The config without the nodes of other trainers: what a run prints and saves."""
    cfg = cfg.clone()
    cfg.defrost()
    node = getattr(TRAINER_REGISTRY.get(cfg.TRAINER.NAME), "node", cfg.TRAINER.NAME)
    if node.upper() in map(str.upper, cfg.TRAINER):  # a plugin may use another trainer's node
        clean_cfg(cfg, node)
    return cfg


def merge_file(cfg: CfgNode, file: Path) -> None:
    """Merge a YAML file; its keys must exist."""
    if not file.is_file():
        folder = file if file.is_dir() else file.parent
        near = sorted(f.name for f in folder.glob("*.yaml"))
        there = f"choose from those in {folder}: {', '.join(near)}" if near else "give a YAML file"
        raise FileNotFoundError(f"there is no config file {file}; {there}")
    for key, value in flatten(read_yaml(file)):
        set_key(cfg, key, value, str(file))


def check_whose(cfg: CfgNode, file: Path) -> None:
    """ValueError where a file has settings of other trainers and none of the one that is asked."""
    node = getattr(TRAINER_REGISTRY.get(cfg.TRAINER.NAME), "node", None)
    settings = read_yaml(file).get("TRAINER") or {}
    theirs = [name for name in settings if isinstance(cfg.TRAINER.get(name), CfgNode)]
    if node and theirs and not any(cfg.TRAINER[n] is cfg.TRAINER[node] for n in theirs):
        raise ValueError(
            f"{file} has settings of another trainer, TRAINER.{theirs[0]}; {cfg.TRAINER.NAME} "
            f"takes those in TRAINER.{node}: give --config-file a file that has them, or --trainer "
            "the method that the file is for"
        )


def merge_per_dataset(cfg: CfgNode, table: Path, task: str, dataset: str) -> list[str]:
    """Merge the entry for a protocol and data set, if the table has one; a line per key."""
    if not table.is_file():
        return []
    tree = read_yaml(table)
    for level in (task, dataset):
        tree = tree.get(level, {})
        if not isinstance(tree, dict):
            raise ValueError(f"{table}: expected keys and values below {level}, not {tree!r:.80}")
    for key, value in tree.items():
        set_key(cfg, key, value, str(table))
    return [f"{key} = {value} (from {table}, {task}, {dataset})" for key, value in tree.items()]


def set_key(cfg: CfgNode, key: str, value: object, source: str) -> None:
    """Set one dotted key; ValueError for a key or type that does not exist."""
    leaves = dict(flatten(cfg))
    if key not in leaves:
        close = difflib.get_close_matches(key, leaves, n=1, cutoff=0.6)
        hint = f"did you mean {close[0]}?" if close else "see the keys that every run prints"
        raise ValueError(f"unknown config key {key!r} in {source}; {hint}")
    try:
        cfg.merge_from_list([key, _as(type(leaves[key]), value)])
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        kind, example = KINDS[type(leaves[key])], leaves[key]
        shown = f", as in {example!r}" if example not in ("", (), []) else ""
        raise ValueError(
            f"{key} cannot be {value!r:.80} (from {source}): it must be {kind}{shown}"
        ) from error


def _as(kind: type, value: object) -> object:
    """Spare people two of yacs' refusals: `1` for a number with a point, `123` for a text.

    And refuse what yacs would let in: nothing at all, and whole structures for a text.
    """
    if value is None or (isinstance(value, str) and value.strip() == "None" and kind is not str):
        raise ValueError("no value")
    if kind is float:
        return float(value)
    if kind is str:
        if not isinstance(value, str | int | float):
            raise ValueError("not a text")
        return repr(str(value))
    return value
