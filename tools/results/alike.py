"""Whether runs are of one experiment, as far as their files say."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from run.flat import INCIDENTAL
from run.reader import replacing
from tools.results.layout import dataset_of, natural_key
from tools.results.reader import Run, setting_text

Facts = Mapping[str, str]

_ANY = INCIDENTAL | {"SEED"}
_HALVES = {"DATASET.SUBSAMPLE_CLASSES", "DATASET.NUM_SHOTS"}  # a test needs no shots
_TRAINING = ("OPTIM.", "TRAIN.", "DATALOADER.")  # settings that weights tell better, if known
_BACKBONE = "MODEL.BACKBONE.NAME"
_TRAINED = "trained with "
_MOST_KEYS, _LONGEST = 5, 40


def among_seeds(runs: Sequence[Run]) -> tuple[str, ...]:
    """What must be said of the seeds of a cell: `OPTIM.LR differs: 0.1 (seed1), 0.2 (seed2)`."""
    facts = ((run.path.name, _facts(run)) for run in runs)
    return (*_copies(runs), *_short_of_shots(runs), *differences(facts))


def among_halves(base: Sequence[Run], new: Sequence[Run]) -> tuple[str, ...]:
    """What differs between base and new classes of each seed, beside the classes."""
    others = {run.seed: run for run in new}
    lines = [
        line
        for run in base
        if (other := others.get(run.seed))
        for line in differences(zip(("base", "new"), _paired(run, other), strict=True))
    ]
    return tuple(dict.fromkeys(lines))


def among_experiments(runs: Mapping[str, Sequence[Run]]) -> tuple[str, ...]:
    """What differs between experiments on the same dataset; between datasets it may."""
    by_dataset: dict[str | None, list[tuple[str, Facts]]] = {}
    for name, own in runs.items():
        for run in own:
            by_dataset.setdefault(run.dataset, []).append((name, _facts(run)))
    return tuple(line for facts in by_dataset.values() for line in differences(facts))


def among_methods(runs: Mapping[str, Sequence[Run]]) -> tuple[str, ...]:
    """What differs between methods of which the same seed was run on the same dataset and part:
    the images, and the weights that go by one name."""
    lines: dict[str, None] = {}
    for seed in sorted({run.seed for own in runs.values() for run in own}):
        found = [(label, run) for label, own in runs.items() for run in own if run.seed == seed]
        for line in differences((label, _compared(run)) for label, run in found):
            lines[f"seed {seed}: {line}"] = None
    return tuple(lines)


def among_targets(runs: Sequence[Run]) -> tuple[str, ...]:
    """What differs in the training of the weights that were tested on several datasets with one
    seed; `runs` may hold that training itself."""
    return tuple(differences((str(run.dataset), _training(run)) for run in runs))


def among_datasets(runs: Mapping[str, Sequence[Run]]) -> dict[str, str]:
    """The names of directories that hold one dataset under several, with what must be said."""
    held: dict[str, dict[str, None]] = {}
    for name, own in runs.items():
        for run in own:
            told = run.record.get("dataset") or run.settings.get("DATASET.NAME")
            known = dataset_of(told if isinstance(told, str) else None) or dataset_of(name)
            held.setdefault(known or name, {})[name] = None
    return {
        name: f"all of dataset {known}: {', '.join(names)}"
        for known, names in held.items()
        for name in names
        if len(names) > 1
    }


def differences(facts: Iterable[tuple[str, Facts]]) -> list[str]:
    """A line for each fact that not all who state it state alike: values, and whose they are."""
    stated: dict[str, dict[str, list[str]]] = {}
    for name, own in facts:
        for key, value in own.items():
            who = stated.setdefault(key, {}).setdefault(value, [])
            who += [name] * (name not in who)
    lines = [
        f"{key} differs: "
        + ", ".join(f"{_short(key, v)} ({', '.join(who)})" for v, who in values.items())
        for key, values in sorted(stated.items(), key=lambda item: natural_key(item[0]))
        if len(values) > 1
    ]
    more = len(lines) - _MOST_KEYS
    return lines if more < 2 else [*lines[:_MOST_KEYS], f"and {more} more"]


def _copies(runs: Iterable[Run]) -> list[str]:
    """Runs whose own files say that they are of one seed."""
    own: dict[int, list[str]] = {}
    for run in runs:
        if run.own_seed is not None:
            own.setdefault(run.own_seed, []).append(run.path.name)
    return [f"all of seed {seed}: {', '.join(names)}" for seed, names in own.items() if names[1:]]


def _short_of_shots(runs: Iterable[Run]) -> list[str]:
    """Classes that had fewer images than shots."""
    texts: dict[str, None] = {}
    for run in runs:
        short = run.record.get("shots_short")
        if isinstance(short, dict) and short:
            named = [f"{name} {count}" for name, count in list(short.items())[:_MOST_KEYS]]
            more = ", ..." * (len(short) > len(named))
            texts[f"fewer images than {run.shots} shots: {', '.join(named)}{more}"] = None
    return list(texts)


def _facts(run: Run) -> dict[str, str]:
    """What makes a result, without what belongs to a seed."""
    trained = _of_training(run)
    return _relevant(run) | {f"{_TRAINED}{key}": value for key, value in trained.items()}


def _relevant(run: Run) -> dict[str, str]:
    facts = _without_name(dict(run.settings), run.record.get("weights_hash"))
    return facts | _code(run.record, run.trainer)


def _of_training(run: Run) -> dict[str, str]:
    """The same of the training of the weights that a run only tested."""
    trained: Any = run.record.get("trained")
    settings = trained.get("settings") if isinstance(trained, dict) else None
    if not isinstance(settings, dict):
        return {}
    texts = {key: setting_text(value) for key, value in settings.items()}
    return _without_name(texts, trained.get("weights_hash")) | _code(trained, run.trainer)


def _code(identity: dict[str, Any], trainer: str | None) -> dict[str, str]:
    """Which plugin took the place of the trainer, if that is known."""
    plugins = replacing(identity, trainer or "")
    return {} if plugins is None else {"plugin in place of ours": ", ".join(plugins) or "none"}


def _without_name(settings: dict[str, str], weights: object) -> dict[str, str]:
    """Where the weights are known it does not matter how their file is called."""
    facts = {key: value for key, value in settings.items() if key not in _ANY}
    if isinstance(weights, str):
        facts.pop(_BACKBONE, None)
        facts["weights_hash"] = weights
    return facts


def _paired(base: Run, new: Run) -> tuple[Facts, Facts]:
    """Facts of both: of the training, if the new one knows it, and of the test."""
    left, right, trained = _relevant(base), _relevant(new), _training(new)
    if trained:
        right = {key: value for key, value in right.items() if not key.startswith(_TRAINING)}
        left, right = left | _training(base), right | trained
    one, two = ({k: v for k, v in own.items() if k not in _HALVES} for own in (left, right))
    return one, two


def _training(run: Run) -> dict[str, str]:
    """Facts of the training behind a result: this run's own, or that of the weights it tested."""
    tests = run.record.get("eval_only") is True or run.split in ("test_new", "test_target")
    facts = _of_training(run) if tests else _relevant(run)
    source: Any = run.record.get("trained") if tests else run.record
    if facts and isinstance(data := source.get("data_hash"), str):
        facts["data_hash"] = data
    return {f"{_TRAINED}{key}": value for key, value in facts.items()}


def _compared(run: Run) -> Facts:
    tested = " of the test" * (run.record.get("eval_only") is True)  # which has no other images
    names = {f"data_hash{tested}": "data_hash", "few_shot_hash": "few_shot_hash"}  # older runs: one
    names[f"weights_hash of {run.backbone}"] = "weights_hash"
    return {
        name: text for name, key in names.items() if isinstance(text := run.record.get(key), str)
    }


def _short(key: str, value: str) -> str:
    if "_hash" in key:
        return value[:12]
    return (value if len(value) <= _LONGEST else f"{value[: _LONGEST - 3]}...") or "''"
