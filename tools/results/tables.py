"""The tables of the three protocols, each from the runs of its tree."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from tools.results.cells import Measure, row_of_cells, table
from tools.results.runs import Run, natural_key

Method = tuple[str, str]  # trainer, cfg


def protocol_tables(runs: Iterable[Run], measure: Measure) -> str:
    """The tables of every tree that `runs` lie in; every run must have a protocol."""
    draw = {"base2new": _base2new, "few_shot": _few_shot, "cross_dataset": _cross_dataset}
    trees = _grouped(runs, lambda run: (run.protocol, run.tree))
    return "\n\n".join(
        "\n\n".join([f"# {protocol}: {tree}\n{measure.caption}", *draw[protocol](members, measure)])
        for (protocol, tree), members in trees.items()
    )


def _base2new(runs: list[Run], measure: Measure) -> list[str]:
    """For each number of shots: methods as rows if there is one data set, else a table per method.

    HM is left out for errors: it rewards what is high on both sides.
    """
    tables = []
    for shots, members in _grouped(runs, lambda run: run.shots).items():
        by_method = {
            label: {
                name: row_of_cells(_by_split(own), measure)
                for name, own in _by_dataset(members, method).items()
            }
            for method, label in _labels(members).items()
        }
        names = _datasets(members)
        if len(names) == 1:
            rows = {label: rows[names[0]] for label, rows in by_method.items()}
            parts = {names[0]: rows}
        else:
            parts = by_method
        hm = measure.keyword != "error"
        tables += [
            table(f"{title}, {shots} shots", ["base", "new"], rows, measure, len(names) > 1, hm)
            for title, rows in parts.items()
        ]
    return tables


def _few_shot(runs: list[Run], measure: Measure) -> list[str]:
    """A table per method: data sets by number of shots."""
    shots = sorted({run.shots for run in runs})
    header = [f"{count} shot{'s' if count != 1 else ''}" for count in shots]
    tables = []
    for method, label in _labels(runs).items():
        rows = {}
        for name, own in _by_dataset(runs, method).items():
            groups = [[run for run in own if run.shots == count] for count in shots]
            rows[name] = row_of_cells(groups, measure)
        tables.append(table(label, header, rows, measure, len(rows) > 1))
    return tables


def _cross_dataset(runs: list[Run], measure: Measure) -> list[str]:
    """Per number of shots and method: the source, the other data sets, the ImageNet variants."""
    tables = []
    for shots, members in _grouped(runs, lambda run: run.shots).items():
        for method, label in _labels(members).items():
            trained = {run.seed for run in members if _is_of(run, method, "train_source")}
            for part, chosen in _parts(members).items():
                if not any(_method(run) == method for run in chosen):
                    continue
                rows = {
                    name: row_of_cells([own], measure, due=trained)
                    for name, own in _by_dataset(chosen, method).items()
                }
                title = f"{label}, {shots} shots, {part}"
                tables.append(table(title, [measure.keyword], rows, measure, len(rows) > 1))
    return tables


def _parts(runs: list[Run]) -> dict[str, list[Run]]:
    """Runs by what they measure; the papers average the two kinds of targets separately."""
    targets = [run for run in runs if run.split == "test_target"]
    variants = [run for run in targets if run.dataset.lower().startswith("imagenet")]
    return {
        "source": [run for run in runs if run.split == "train_source"],
        "targets": [run for run in targets if run not in variants],
        "domain generalisation": variants,
    }


def _is_of(run: Run, method: Method, split: str) -> bool:
    return _method(run) == method and run.split == split


def _by_split(runs: list[Run]) -> list[list[Run]]:
    return [[run for run in runs if run.split == split] for split in ("train_base", "test_new")]


def _by_dataset(runs: list[Run], method: Method) -> dict[str, list[Run]]:
    """The method's runs on every data set that any method was run on."""
    own = [run for run in runs if _method(run) == method]
    return {name: [run for run in own if run.dataset == name] for name in _datasets(runs)}


def _datasets(runs: list[Run]) -> list[str]:
    return sorted({run.dataset for run in runs}, key=natural_key)


def _method(run: Run) -> Method:
    return run.trainer, run.cfg


def _labels(runs: list[Run]) -> dict[Method, str]:
    """Every method's name: the trainer, and its cfg where the trainer was run with several."""
    methods = sorted({_method(run) for run in runs}, key=natural_key)
    variants = Counter(trainer for trainer, _ in methods)
    return {
        (trainer, cfg): f"{trainer}/{cfg}" if variants[trainer] > 1 else trainer
        for trainer, cfg in methods
    }


def _grouped(runs: Iterable[Run], key: Callable[[Run], Any]) -> dict[Any, list[Run]]:
    groups: dict[Any, list[Run]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return {name: groups[name] for name in sorted(groups, key=natural_key)}
