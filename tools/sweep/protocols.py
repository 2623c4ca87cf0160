"""The three protocols as lists of runs: folders, settings, and which run waits for which."""

import difflib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

REPO = Path(__file__).parents[2]
CONFIGS = REPO / "configs"
PROTOCOLS = ("base2new", "few_shot", "cross_dataset")
PARTS = ("train", "test")
TARGETS = (
    *("caltech101", "oxford_pets", "stanford_cars", "oxford_flowers", "food101"),
    *("fgvc_aircraft", "sun397", "dtd", "eurosat", "ucf101"),
)
BENCHMARK = ("imagenet", *TARGETS)
VARIANTS = ("imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r")
FEW_SHOTS = (1, 2, 4, 8, 16)
COOP_IMAGENET = "vit_b16_ep50_ctxv1"
TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=+-]{0,59}")
DECIDED = {  # keys whose values are in the folders, and what says them
    "SEED": "--seeds",
    "DATASET.NUM_SHOTS": "--shots",
    "DATASET.SUBSAMPLE_CLASSES": "the protocol",
    "TRAINER.NAME": "--methods",
    "OUTPUT_DIR": "--output",
}


class Run(NamedTuple):
    """One call of train.py."""

    folder: str  # below the output folder
    arguments: tuple[str, ...]  # of train.py
    after: str | None = None  # folder of the run of the same sweep whose weights it tests
    training: tuple[str, ...] = ()  # arguments of the run whose weights it tests, of any sweep


@dataclass(frozen=True)
class Request:
    """What a sweep is to cover. Names are checked by `expand`, which raises ValueError."""

    protocol: str
    methods: Sequence[str]
    output: Path
    data: Path
    datasets: Sequence[str] = ()  # names or YAML files; (): the benchmark's
    seeds: Sequence[int] = (1, 2, 3)
    shots: Sequence[int] = ()  # (): 16, or 1 to 16 for few_shot
    source: str = "imagenet"  # of cross_dataset
    parts: Sequence[str] = PARTS
    cfg: str | None = None  # the variant of the settings, for all methods
    backbone: str | None = None
    plugins: Sequence[str] = ()
    plugin_paths: Sequence[str] = ()
    options: Sequence[str] = field(default_factory=tuple)  # KEY VALUE ...
    tag: str | None = None  # behind the variant's name in the folders, for settings of one's own


class DataSet(NamedTuple):
    name: str  # in output paths
    yaml: str


def expand(request: Request) -> list[Run]:
    """The runs of a sweep, each behind the one it waits for.

    Raises ValueError, which says what is allowed, for an unknown method, data set or variant, and
    for options that would make runs others than their folders say.
    """
    _check_options(request)
    methods = [trainer_named(name) for name in every(request.methods, known_methods())]
    of_method = _EXPAND[request.protocol]
    runs = [run for method in dict.fromkeys(methods) for run in of_method(request, method)]
    if request.protocol == "cross_dataset":  # all training first: many tests wait for each
        runs.sort(key=lambda run: run.after is not None)
    folders = {run.folder: run for run in runs}
    return [run if run.after in folders else run._replace(after=None) for run in folders.values()]


def _check_options(request: Request) -> None:
    for key in request.options[::2]:
        if key in DECIDED:
            raise ValueError(f"{key} is decided by {DECIDED[key]} of a sweep: leave it out")
    if request.tag is not None and not TAG.fullmatch(request.tag):
        raise ValueError(
            f"--tag {request.tag!r} cannot be part of a folder's name; allowed: up to 60 letters, "
            "digits and . _ = + -, the first a letter or digit, as in lr=0.5"
        )


def every(names: Sequence[str], known: Iterable[str]) -> list[str]:
    """`names`, with 'all' for those that are known."""
    return [n for name in names for n in (known if name == "all" else (name,))]


def known_methods() -> list[str]:
    """Trainers with settings, by name."""
    return sorted(folder.name for folder in (CONFIGS / "trainers").iterdir() if folder.is_dir())


def known_datasets() -> list[str]:
    return sorted(file.stem for file in (CONFIGS / "datasets").glob("*.yaml"))


def trainer_named(name: str) -> str:
    """A method from its trainer's name, or from its folder's in scripts/; ValueError for others."""
    plain = {known.lower(): known for known in known_methods()} | {"zsclip": "ZeroshotCLIP"}
    asked = name.lower().replace("_", "")
    if asked in plain:
        return plain[asked]
    near = difflib.get_close_matches(asked, plain, n=1)
    hint = f" (did you mean {plain[near[0]]}?)" if near else ""
    known = ", ".join(known_methods())
    raise ValueError(f"unknown method '{name}'{hint}; methods: {known}, or all")


def _dataset(name: str) -> DataSet:
    if name.endswith(".yaml"):
        if not os.path.isfile(name):
            raise ValueError(
                f"unknown data set '{name}': there is no such file; allowed: a YAML file of your "
                f"own, or\n{' '.join(known_datasets())}"
            )
        return DataSet(Path(name).stem, name)
    known = known_datasets()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ValueError(
            f"unknown data set '{name}'{hint}; allowed: a YAML file of your own, or\n"
            f"{' '.join(known)}"
        )
    return DataSet(name, str(CONFIGS / "datasets" / f"{name}.yaml"))


def _datasets(request: Request, default: Iterable[str]) -> list[DataSet]:
    found = dict.fromkeys(_dataset(name) for name in every(request.datasets or ("all",), default))
    files = {dataset.name: dataset.yaml for dataset in found}
    if both := [dataset for dataset in found if files[dataset.name] != dataset.yaml]:
        raise ValueError(
            f"{both[0].yaml} and {files[both[0].name]} would be written to the same folders; "
            "rename one"
        )
    return list(found)


def variant(method: str, ending: str = "", dataset: str | None = None) -> str:
    """The settings of a method's authors: those for a protocol (`ending`) or for ImageNet, if
    there are such."""
    base = _published(method)
    imagenet = f"{base}_imagenet"
    default = base + ending
    if method == "CoOp":  # one schedule for ImageNet, in all protocols
        imagenet = COOP_IMAGENET
        default = imagenet if ending == "_cross_datasets" else default
    names = [imagenet] if dataset == "imagenet" else []
    there = [name for name in (*names, default) if _settings(method, name).is_file()]
    return there[0] if there else base


def _published(method: str) -> str:
    """The settings that the authors' scripts take: the plain ones for ViT-B/16."""
    names = [file.stem for file in (CONFIGS / "trainers" / method).glob("vit_b16*.yaml")]
    return min(names, key=len, default="vit_b16")


def _settings(method: str, cfg: str) -> Path:
    return CONFIGS / "trainers" / method / f"{cfg}.yaml"


def _run(
    request: Request,
    where: str,
    method: str,
    cfg: str,
    dataset: DataSet,
    seed: int,
    shots: int,
    *settings: str,
    weights: Run | None = None,
) -> Run:
    """`where`: the folder above the data set's; `weights`: of the training run that is tested."""
    file = _settings(method, cfg)
    if not file.is_file():
        names = sorted({path.stem for path in file.parent.glob("*.yaml")} - {"per_dataset"})
        raise ValueError(f"{method} has no settings '{cfg}'; there are {', '.join(names)}")
    named = f"{cfg}@{request.tag}" if request.tag else cfg
    tail = f"{dataset.name}/shots_{shots}/{method}/{named}/seed{seed}"
    folder = f"{where}/{tail}"
    flags = [*("--root", str(request.data), "--seed", str(seed), "--trainer", method)]
    flags += ["--dataset-config-file", dataset.yaml, "--config-file", str(file)]
    flags += ["--output-dir", str(request.output / folder)]
    if request.backbone:
        flags += ["--backbone", request.backbone]
    for plugin in request.plugins:
        flags += ["--plugin", plugin]
    for path in request.plugin_paths:
        flags += ["--plugin-path", path]
    if weights:
        flags += ["--eval-only", "--model-dir", str(request.output / weights.folder)]
    numbers = ("DATASET.NUM_SHOTS", str(shots))
    arguments = (*flags, *settings[:2], *numbers, *settings[2:], *request.options)
    return Run(folder, arguments, *(weights[:2] if weights else ()))


def _base2new(request: Request, method: str) -> list[Run]:
    runs = []
    for dataset in _datasets(request, BENCHMARK):
        cfg = request.cfg or variant(method, dataset=dataset.name)
        for shots in request.shots or (16,):
            for seed in request.seeds:
                place = (method, cfg, dataset, seed, shots, "TASK", "B2N")
                half = "DATASET.SUBSAMPLE_CLASSES"
                train = _run(request, "base2new/train_base", *place, half, "base")
                test = _run(request, "base2new/test_new", *place, half, "new", weights=train)
                runs += _asked(request, train, test)
    return runs


def _few_shot(request: Request, method: str) -> list[Run]:
    return [
        _run(request, "few_shot", method, cfg, dataset, seed, shots, "TASK", "FS")
        for dataset in _datasets(request, BENCHMARK)
        for cfg in (request.cfg or variant(method, "_few_shot", dataset.name),)
        for seed in request.seeds
        for shots in request.shots or FEW_SHOTS
    ]


def _cross_dataset(request: Request, method: str) -> list[Run]:
    cfg = request.cfg or variant(method, "_cross_datasets")
    source = _dataset(request.source)
    task = ("TASK", "CD")
    runs = []
    for shots in request.shots or (16,):
        for seed in request.seeds:
            where = "cross_dataset/train_source"
            train = _run(request, where, method, cfg, source, seed, shots, *task)
            runs += _asked(request, train, None)
            for target in _datasets(request, (*TARGETS, *VARIANTS)):
                place = (method, cfg, target, seed, shots, *task)
                test = _run(*(request, "cross_dataset/test_target", *place), weights=train)
                runs += _asked(request, None, test)
    return runs


def _asked(request: Request, train: Run | None, test: Run | None) -> list[Run]:
    """Those of the parts that are wanted."""
    both = zip(PARTS, (train, test), strict=True)
    return [run for part, run in both if run is not None and part in request.parts]


_EXPAND = {"base2new": _base2new, "few_shot": _few_shot, "cross_dataset": _cross_dataset}
