"""The config of a run, from the engine's defaults to the last `KEY VALUE` of the command.

Each source becomes a list of settings, which are merged in this order, later ones winning:

    engine defaults < each method's settings, each plugin's `add_config` < data set YAML
    < trainer YAML < `per_dataset.yaml` beside it, by TASK and data set < flags < KEY VALUE ...
"""

import difflib
import os
from argparse import Namespace
from collections.abc import Iterable
from functools import cache, reduce
from itertools import pairwise
from operator import getitem
from pathlib import Path
from typing import Any, NamedTuple

from yacs.config import CfgNode

from common.config_files import config_layers, read_config
from common.method_names import find
from common.punctuation import instead
from common.safe_yaml import Plain, read_as_written, read_yaml
from dassl.config import clean_cfg, get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY
from run.flat import EARLIER, flatten
from run.plugin_errors import plugin_errors
from run.plugins import check_registered, import_plugins
from run.typed import typed
from training.trainer import add_config

PATHS = {
    *("OUTPUT_DIR", "RESUME", "DATASET.ROOT", "DATASET.PATH"),
    *("MODEL.BACKBONE.NAME", "MODEL.INIT_WEIGHTS"),
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


class Setting(NamedTuple):
    """One key of the config, as somebody gave it."""

    key: str  # dotted
    value: Any  # as it was written; `merge` gives it the type of the key
    source: str  # file or flag


def default_config(plugins: Iterable[str] = (), paths: Iterable[str] = ()) -> CfgNode:
    """All keys that exist, with their defaults; registers every trainer and data set.

    plugins: files from elsewhere that are to be registered too
    paths: folders that their imports look into first
    """
    cfg = get_cfg_default()
    _extend(cfg, plugins, paths)
    return cfg


def extend_cfg(cfg: CfgNode) -> None:
    """Add what another train.py's config lacks for the trainers and data sets, and register these.

    That train.py does not read `per_dataset.yaml`: values that differ from it are refused.
    """
    _extend(cfg)
    cfg.INPUT.EXIF_ORIENTATION = "ignore"  # that train.py does not ask the dataset
    cfg.PER_DATASET = True  # False: values other than those of per_dataset.yaml are meant


def _extend(cfg: CfgNode, plugins: Iterable[str] = (), paths: Iterable[str] = ()) -> None:
    cfg.DEVICE = "auto"  # cpu, cuda, cuda:N, mps, xpu or xpu:N; auto: the accelerator, else cpu
    cfg.TASK = ""  # the protocol: B2N, FS or CD
    cfg.TRAIN.COMPILE = False  # True: torch.compile for training steps; on CUDA as graphs
    cfg.INPUT.EXIF_ORIENTATION = "auto"  # apply or ignore; auto: as the class of the dataset says
    # Where a method reads the frozen CLIP's image features alone. STORE: keep them, or off.
    # MAX_GB: of the store. VIEWS: train on features of so many random views; 0: on images.
    cfg.FEATURES = CfgNode({"STORE": "auto", "MAX_GB": 10.0, "VIEWS": 0})
    cfg.DETERMINISTIC = False  # True: ask torch for deterministic algorithms
    cfg.MODEL.BACKBONE.ACTIVATION = ""  # of a CLIP that does not say it: quick_gelu or gelu
    cfg.MODEL.BACKBONE.HEADS = []  # likewise: attention heads of the vision and the text tower
    cfg.DATASET.SUBSAMPLE_CLASSES = "all"  # all, base or new
    cfg.DATASET.PATH = ""  # ImageFolder: the folder of pictures
    cfg.DATASET.TEMPLATE = ""  # replaces the data set's own sentence, e.g. 'a photo of a {}.'
    cfg.TEST.SAVE_PREDICTIONS = False  # write predictions.csv: the answer to every test picture
    for module in import_plugins(plugins, paths):
        with plugin_errors(Path(module.__file__ or "")):
            add_config(cfg, module)


def build_config(args: Namespace) -> tuple[CfgNode, list[str]]:
    """The frozen config of a command line, and a line for each key `per_dataset.yaml` set.

    Raises ValueError or FileNotFoundError that names the file or flag, the key and, where
    there is one, the key that was probably meant.
    """
    from run.values import check_values  # late: upstream's engine has no such tables

    cfg = default_config(args.plugin, args.plugin_path)
    if args.trainer:  # before its keys are missed
        args.trainer = find(args.trainer, TRAINER_REGISTRY.registered_names()) or args.trainer
        check_registered(TRAINER_REGISTRY, args.trainer, "trainer (--trainer)")
    given = [*map(file_settings, (args.dataset_config_file, args.config_file))]
    given.append(command_settings(args))
    said = {s.key: s.value for settings in given for s in settings}
    trainer = str(said.get("TRAINER.NAME", cfg.TRAINER.NAME))
    of_dataset, of_trainer, command = (
        [_by_own_key(cfg, s, trainer) for s in each] for each in given
    )
    table = table_settings(
        Path(args.config_file).parent / "per_dataset.yaml" if args.config_file else None,
        str(said.get("TASK", cfg.TASK)),
        str(said.get("DATASET.NAME", cfg.DATASET.NAME)),
    )
    found = merge(cfg, [*of_dataset, *of_trainer, *table, *command])
    from_table = {setting.source for setting in table}
    notes = [f"{s.key} = {s.value} (from {s.source})" for s in found if s.source in from_table]
    check_registered(TRAINER_REGISTRY, cfg.TRAINER.NAME, "trainer (--trainer)")
    check_whose(cfg, of_trainer, args.config_file)
    check_values(cfg)
    if cfg.INPUT.EXIF_ORIENTATION == "auto":
        cfg.INPUT.EXIF_ORIENTATION = _trained_orientation(cfg, args) or orientation_of(
            cfg.DATASET.NAME
        )
    cfg.freeze()
    return cfg, notes


def _by_own_key(cfg: CfgNode, setting: Setting, trainer: str) -> Setting:
    """A key of the published code of a trainer as the key of its own node here, if it has it."""
    cls = TRAINER_REGISTRY.get(trainer) if trainer in TRAINER_REGISTRY else None
    room, _, name = setting.key.rpartition(".")
    table = getattr(cls, "published_keys", {})
    own = table.get(setting.key) or table.get(f"{room}.*", "").replace("*", name)
    if not (cls and own and own in cfg.TRAINER[cls.node]):
        return setting
    key, value = f"TRAINER.{cls.node}.{own}", setting.value
    if own == "CTX_INIT" and str(value).lower() not in ("true", "false"):
        value = bool(value)  # words, as CoOp has them: these methods take words of their own
    return setting._replace(key=key, value=value)


def file_settings(file: str | Path) -> list[Setting]:
    """What a YAML file and the files that it builds on set; nothing where none is given."""
    layers = config_layers(Path(file)) if file else []
    return [Setting(*leaf, str(path)) for path, tree in layers for leaf in flatten(tree)]


def table_settings(table: Path | None, task: str, dataset: str) -> list[Setting]:
    """The entry of a `per_dataset.yaml` for a protocol and dataset, if there is one."""
    if table is None or not table.is_file():
        return []
    tree = read_config(table, read_as_written)
    for level in (task, dataset):
        tree = tree.get(level, {})
        if not isinstance(tree, dict):
            raise ValueError(f"{table}: expected keys and values below {level}, not {tree!r:.80}")
    return [Setting(key, value, f"{table}, {task}, {dataset}") for key, value in tree.items()]


def command_settings(args: Namespace) -> list[Setting]:
    """What the flags and the KEY VALUE behind them set."""
    check_tail(args)
    given = [
        Setting(key, getattr(args, flag), f"--{flag.replace('_', '-')}")
        for flag, key in FLAG_KEYS.items()
        if getattr(args, flag, None) is not None
    ]
    for key, text in zip(args.opts[::2], args.opts[1::2], strict=True):
        plain = Plain(text) if isinstance(text, str) and text else text
        given.append(Setting(key, plain, "the command line"))
    return given


def merge_file(cfg: CfgNode, file: Path) -> None:
    """Merge a YAML file and the files that it builds on; their keys must exist."""
    merge(cfg, file_settings(file))


def merge(cfg: CfgNode, settings: Iterable[Setting]) -> list[Setting]:
    """Set keys, later ones winning; the settings, each value in the type that its key has.

    Raises ValueError for a key that does not exist, or a value of another type.
    """
    leaves = dict(flatten(cfg))
    found = [setting._replace(value=_typed(cfg, leaves, setting)) for setting in settings]
    for key, value, _ in found:
        *nodes, name = key.split(".")
        reduce(getitem, nodes, cfg)[name] = value
    return found


def _typed(cfg: CfgNode, leaves: dict[str, Any], setting: Setting) -> Any:
    key, value, source = setting
    first = value[0] if isinstance(value, list) and value else value
    where = f"{source}, line {first.line}" if getattr(first, "line", None) else source
    if key not in leaves:
        raise ValueError(_no_leaf(cfg, leaves, setting, where))
    default = leaves[key]
    try:
        found = typed(value, default, loose=_own_types().get(key) is not type(default))
    except ValueError as error:
        has = "has no value" if value in ("", None) else f"cannot be {value!r:.80}"
        raise ValueError(f"{key} {has} (from {where}): {error}") from error
    return os.path.expanduser(found) if key in PATHS else found


def _trained_orientation(cfg: CfgNode, args: Namespace) -> str | None:
    """How the run whose weights are to be tested saw the images of this dataset, if it says so."""
    file = Path(args.model_dir or "") / "config.yaml"
    if not (args.eval_only and args.model_dir and file.is_file()):
        return None
    trained = EARLIER | dict(flatten(read_yaml(file)))
    same = trained.get("DATASET.NAME") == cfg.DATASET.NAME
    found = trained["INPUT.EXIF_ORIENTATION"]
    return found if same and found in ("apply", "ignore") else None


def orientation_of(dataset: str) -> str:
    """What INPUT.EXIF_ORIENTATION auto means for a dataset: `ignore` unless its class says so."""
    known = dataset in DATASET_REGISTRY.registered_names()  # which is checked later
    return getattr(known and DATASET_REGISTRY.get(dataset), "exif_orientation", "ignore")


def check_tail(args: Namespace) -> None:
    """ValueError for a tail that is not KEY VALUE ..., which says what it seems to be instead."""
    flags = {f"--{name.replace('_', '-')}" for name in vars(args)} | {"--debug", "--help"}
    for before, word in pairwise(["the options", *args.opts]):
        if not isinstance(word, str):  # Python gives values, too
            continue
        flag = word.partition("=")[0]
        if flag in flags:
            raise ValueError(
                f"{flag} must stand before the first KEY VALUE, which is {args.opts[0]} here"
            )
        if word.startswith("--"):
            near = _near(flag, flags) or "there is none like it."
            raise ValueError(f"unknown flag {flag!r}; {near} See python train.py --help")
        if word[:1] in ("'", '"') and word.count(word[0]) == 1 and " " not in word:
            raise ValueError(
                f"{before}: a value with spaces was cut into words at {word}; put it into a YAML "
                "file of your own, which train.py takes as --config-file or "
                "--dataset-config-file, and scripts take in place of a data set's name; quotes in "
                "OPTS do not hold it together"
            )
    for key in args.opts[::2]:
        if "=" in key:
            raise ValueError(f"{key!r} must be written with a space: {key.replace('=', ' ', 1)}")
    if len(args.opts) % 2:
        raise ValueError(
            f"the options at the end must be pairs KEY VALUE, but {args.opts[-1]!r} stands alone: "
            "give every key a value"
        )


def repeated(args: Namespace) -> list[str]:
    """A line for each key that a command gives several values, by a flag and KEY VALUE ..."""
    values: dict[str, list[str]] = {}
    for key, value, _ in command_settings(args):
        values.setdefault(key, []).append(str(value))
    return [
        f"{key} is given as {', then '.join(texts)}: the last one counts"
        for key, texts in values.items()
        if len(set(texts)) > 1
    ]


def own_part(cfg: CfgNode) -> CfgNode:
    """The config without the nodes of other trainers: what a run prints and saves."""
    cfg = cfg.clone()
    cfg.defrost()
    node = getattr(TRAINER_REGISTRY.get(cfg.TRAINER.NAME), "node", cfg.TRAINER.NAME)
    if node.upper() in map(str.upper, cfg.TRAINER):  # a plugin may use another trainer's node
        clean_cfg(cfg, node)
    return cfg


def check_whose(cfg: CfgNode, settings: Iterable[Setting], file: str) -> None:
    """ValueError where a file has settings of other trainers and none of the one that is asked."""
    node = getattr(TRAINER_REGISTRY.get(cfg.TRAINER.NAME), "node", None)
    names = [s.key.split(".")[1] for s in settings if s.key.startswith("TRAINER.")]
    theirs = [name for name in names if isinstance(cfg.TRAINER[name], CfgNode)]
    if node and theirs and not any(cfg.TRAINER[n] is cfg.TRAINER[node] for n in theirs):
        raise ValueError(
            f"{file} has settings of another trainer, TRAINER.{theirs[0]}; {cfg.TRAINER.NAME} "
            f"takes those in TRAINER.{node}: give --config-file a file that has them, or --trainer "
            "the method that the file is for"
        )


def _no_leaf(cfg: CfgNode, leaves: Iterable[str], setting: Setting, where: str) -> str:
    """What is said of a key that is none, or that holds keys."""
    key, value, _ = setting
    below = [leaf for leaf in leaves if leaf.startswith(f"{key}.")]
    if not below:
        nodes = {leaf.rpartition(".")[0] for leaf in leaves} - {"", key.rpartition(".")[0]}
        hint = instead(key) or _near(key, {*leaves, *nodes}) or "see the keys that every run prints"
        room, *names = key.split(".")
        if room == "TRAINER" and len(names) > 1 and names[0] not in cfg.TRAINER:
            hint += f" (no file that was loaded adds TRAINER.{names[0]}: see docs/PLUGINS.md)"
        return f"unknown config key {key!r} in {where}; {hint}"
    if value in ("", None):
        return (
            f"{key} in {where} has nothing below it: leave it out, or give keys such as {below[0]}"
        )
    hint = instead(str(value)) or f"give keys below it, such as {below[0]}"
    return f"{key} holds keys, not {value!r:.80} (from {where}): {hint}"


def _near(word: str, known: Iterable[str]) -> str:
    by_capitals = {name.upper(): name for name in known}
    close = difflib.get_close_matches(word.upper(), by_capitals, n=1, cutoff=0.6)
    return f"did you mean {by_capitals[close[0]]}?" if close else ""


@cache
def _own_types() -> dict[str, type]:
    """Of the keys that are there without plugins."""
    return {key: type(value) for key, value in flatten(default_config())}
