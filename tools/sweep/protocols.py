"""The three protocols as lists of runs: directories, arguments, and which run waits for which."""

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from common.method_names import find, plain

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
# The configs that the authors' scripts take, where their name is not vit_b16.
PUBLISHED = {
    "CoOp": "vit_b16_ctxv1",
    "CoCoOp": "vit_b16_c4_ep10_batch1_ctxv1",
    "MaPLe": "vit_b16_c2_ep5_batch4_2ctx",
    "VPT": "vit_b16_c2_ep5_batch4_4ctx",
    "IVLP": "vit_b16_c2_ep20_batch4_4+4ctx",
    "PromptSRC": "vit_b16_c2_ep20_batch4_4+4ctx",
}
COOP_IMAGENET = "vit_b16_ep50_ctxv1"
# They answer for the classes of training alone: no new classes, no other datasets.
CLASS_BOUND = ("LPPlusPlus", "LinearProbe", "TaskRes", "TipAdapter", "TipAdapterF")
TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=+-]{0,59}")
DECIDED = {  # config keys that the directories of the runs state, and what sets them
    "SEED": "--seeds",
    "DATASET.NUM_SHOTS": "--shots",
    "DATASET.SUBSAMPLE_CLASSES": "the protocol",
    "TRAINER.NAME": "--methods",
    "OUTPUT_DIR": "--output",
}


class Run(NamedTuple):
    """One call of train.py."""

    directory: str  # below the output directory; identifies the run
    arguments: tuple[str, ...]  # of train.py
    after: str | None = None  # the training run of the same sweep that has to finish before
    training: tuple[str, ...] = ()  # of a test: arguments of the training run, of any sweep


@dataclass(frozen=True)
class Request:
    """What a sweep covers. `expand` checks the names."""

    protocol: str
    methods: Sequence[str]
    output: Path
    data: Path
    datasets: Sequence[str] = ()  # names or YAML files; (): those of the benchmark
    seeds: Sequence[int] = (1, 2, 3)
    shots: Sequence[int] = ()  # (): 16, or 1 to 16 for few_shot
    source: str = "imagenet"  # of cross_dataset
    parts: Sequence[str] = PARTS
    cfg: str | None = None  # the config, for all methods
    backbone: str | None = None
    plugins: Sequence[str] = ()
    plugin_paths: Sequence[str] = ()
    options: Sequence[str] = ()  # KEY VALUE ...
    tag: str | None = None  # behind the config's name in the directories


class Dataset(NamedTuple):
    name: str  # in output paths
    yaml: str


class RunPath(NamedTuple):
    """What the directory of a run says."""

    group: str  # few_shot, base2new/train_base, ...
    dataset: str
    shots: str  # shots_16
    method: str
    cfg: str
    seed: str  # seed1

    @classmethod
    def parse(cls, directory: str) -> "RunPath":
        return cls(*directory.rsplit("/", 5))

    @property
    def part(self) -> str:
        """'base' and 'new', 'source' and 'target'; '' for few-shot runs."""
        return self.group.rpartition("_")[2] if "/" in self.group else ""

    def words(self) -> str:
        """`MMRL dtd base 16 shots seed 1`."""
        part = "" if self.part == "target" else self.part
        shots, seed = self.shots.removeprefix("shots_"), self.seed.removeprefix("seed")
        words = (self.method, self.dataset, part, f"{shots} shots", f"seed {seed}")
        return " ".join(filter(None, words))


def expand(request: Request) -> list[Run]:
    """The runs of a sweep, each behind the one that it waits for.

    Raises ValueError, which says what is allowed, for an unknown method, dataset or config, and
    for options that contradict the directories of the runs.
    """
    _check_options(request)
    methods = [trainer_named(name) for name in _every(request.methods, known_methods())]
    of_method = _EXPAND[request.protocol]
    runs = [run for method in dict.fromkeys(methods) for run in of_method(request, method)]
    if request.protocol == "cross_dataset":  # all training first: many tests wait for each
        runs.sort(key=lambda run: run.after is not None)
    wanted = [run for run in runs if PARTS[bool(run.training)] in request.parts]
    found = {run.directory: run for run in wanted}
    return [run if run.after in found else run._replace(after=None) for run in found.values()]


def left_out(request: Request) -> str:
    """What a sweep does not run for methods that answer for their training classes alone."""
    asked = map(trainer_named, _every(request.methods, known_methods()))
    bound = dict.fromkeys(method for method in asked if method in CLASS_BOUND)
    what = {"base2new": "new classes", "cross_dataset": "datasets with other classes"}
    if not bound or request.protocol not in what or "test" not in request.parts:
        return ""
    return (
        f"Left out: tests of {', '.join(bound)} on {what[request.protocol]}: learned by example, "
        "they know the classes of training alone"
    )


def _check_options(request: Request) -> None:
    for key in request.options[::2]:
        if key in DECIDED:
            raise ValueError(f"{key} is decided by {DECIDED[key]} of a sweep: leave it out")
    if request.tag is not None and not TAG.fullmatch(request.tag):
        raise ValueError(
            f"--tag {request.tag!r} cannot be part of a directory's name; allowed: up to 60 "
            "letters, digits and . _ = + -, the first a letter or digit, as in lr=0.5"
        )


def _every(names: Sequence[str], known: Iterable[str]) -> list[str]:
    """`names`, with all of `known` in place of 'all'."""
    return [n for name in names for n in (known if name == "all" else (name,))]


def known_methods() -> list[str]:
    """Trainers with configs, by name."""
    return sorted(folder.name for folder in (CONFIGS / "trainers").iterdir() if folder.is_dir())


def trainer_named(name: str) -> str:
    """A method from the name of its trainer or of its directory in scripts/; else ValueError."""
    if found := find(name, known_methods()):
        return found
    known = {plain(method): method for method in known_methods()}
    allowed = ", ".join(known_methods())
    raise ValueError(
        f"unknown method '{name}'{_hint(plain(name), known)}; methods: {allowed}, or all"
    )


def _dataset(name: str) -> Dataset:
    known = {file.stem: str(file) for file in sorted((CONFIGS / "datasets").glob("*.yaml"))}
    if name in known:
        return Dataset(name, known[name])
    own = name.endswith(".yaml")
    if own and Path(name).is_file():
        return Dataset(Path(name).stem, name)
    why = ": there is no such file" if own else _hint(name, {stem: stem for stem in known})
    raise ValueError(
        f"unknown dataset '{name}'{why}; allowed: a YAML file of your own, or\n{' '.join(known)}"
    )


def _hint(name: str, known: dict[str, str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {known[near[0]]}?)" if near else ""


def _datasets(request: Request, default: Iterable[str]) -> list[Dataset]:
    found = dict.fromkeys(_dataset(name) for name in _every(request.datasets or ("all",), default))
    files = {dataset.name: dataset.yaml for dataset in found}
    for dataset in found:
        if files[dataset.name] != dataset.yaml:
            raise ValueError(
                f"{dataset.yaml} and {files[dataset.name]} would be written to the same "
                "directories; rename one"
            )
    return list(found)


def variant(method: str, ending: str = "", dataset: str | None = None) -> str:
    """The config of a method's authors: for a protocol (`ending`), or for ImageNet."""
    base = PUBLISHED.get(method, "vit_b16")
    imagenet, default = f"{base}_imagenet", base + ending
    if method == "CoOp":  # one schedule for ImageNet, in all protocols
        imagenet = COOP_IMAGENET
        default = imagenet if ending == "_cross_datasets" else default
    names = [imagenet] if dataset == "imagenet" else []
    there = [name for name in (*names, default) if _config(method, name).is_file()]
    return there[0] if there else base


def _config(method: str, cfg: str) -> Path:
    return CONFIGS / "trainers" / method / f"{cfg}.yaml"


def _run(
    request: Request,
    group: str,
    method: str,
    cfg: str,
    dataset: Dataset,
    seed: int,
    shots: int,
    *settings: str,
    trained: Run | None = None,
) -> Run:
    """`group`: the directory above the dataset's; `trained`: the training run to test."""
    file = _config(method, cfg)
    if not file.is_file():
        names = sorted({path.stem for path in file.parent.glob("*.yaml")} - {"per_dataset"})
        raise ValueError(f"{method} has no settings '{cfg}'; there are {', '.join(names)}")
    tagged = f"{cfg}@{request.tag}" if request.tag else cfg
    directory = f"{group}/{dataset.name}/shots_{shots}/{method}/{tagged}/seed{seed}"
    flags = [*("--root", str(request.data), "--seed", str(seed), "--trainer", method)]
    flags += ["--dataset-config-file", dataset.yaml, "--config-file", str(file)]
    flags += ["--output-dir", str(request.output / directory)]
    flags += ["--backbone", request.backbone] if request.backbone else []
    for plugin in request.plugins:
        flags += ["--plugin", plugin]
    for path in request.plugin_paths:
        flags += ["--plugin-path", path]
    if trained:
        flags += ["--eval-only", "--model-dir", str(request.output / trained.directory)]
    numbers = ("DATASET.NUM_SHOTS", str(shots))
    arguments = (*flags, *settings[:2], *numbers, *settings[2:], *request.options)
    return Run(directory, arguments, *(trained[:2] if trained else ()))


def _base2new(request: Request, method: str) -> Iterator[Run]:
    half = "DATASET.SUBSAMPLE_CLASSES"
    for dataset in _datasets(request, BENCHMARK):
        cfg = request.cfg or variant(method, dataset=dataset.name)
        for shots in request.shots or (16,):
            for seed in request.seeds:
                common = (method, cfg, dataset, seed, shots, "TASK", "B2N", half)
                train = _run(request, "base2new/train_base", *common, "base")
                yield train
                if method in CLASS_BOUND:
                    continue
                yield _run(request, "base2new/test_new", *common, "new", trained=train)


def _few_shot(request: Request, method: str) -> Iterator[Run]:
    for dataset in _datasets(request, BENCHMARK):
        cfg = request.cfg or variant(method, "_few_shot", dataset.name)
        for seed in request.seeds:
            for shots in request.shots or FEW_SHOTS:
                yield _run(request, "few_shot", method, cfg, dataset, seed, shots, "TASK", "FS")


def _cross_dataset(request: Request, method: str) -> Iterator[Run]:
    cfg = request.cfg or variant(method, "_cross_datasets")
    source, targets = _dataset(request.source), _datasets(request, (*TARGETS, *VARIANTS))
    if method in CLASS_BOUND:
        same = VARIANTS if source.name == "imagenet" else ()
        targets = [target for target in targets if target.name in same]
    for shots in request.shots or (16,):
        for seed in request.seeds:
            common = (seed, shots, "TASK", "CD")
            train = _run(request, "cross_dataset/train_source", method, cfg, source, *common)
            yield train
            for target in targets:
                group = "cross_dataset/test_target"
                yield _run(request, group, method, cfg, target, *common, trained=train)


_EXPAND = {"base2new": _base2new, "few_shot": _few_shot, "cross_dataset": _cross_dataset}
