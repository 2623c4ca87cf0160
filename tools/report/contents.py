"""What stands on the page, put together from the runs."""

from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path

from tools.report.costs import clock, cost_table, number
from tools.report.elements import Cell, Plot, Table, name_cell, text_cell
from tools.report.environment import differing as differing_environment
from tools.report.environment import environment_table
from tools.report.files import PlotFiles
from tools.report.page import Notice, Page, Section
from tools.report.plots import shots_figure, shots_panel, swatch
from tools.report.results import PROTOCOLS, shot_curves, tables
from tools.report.selection import Choice, detail_section
from tools.report.settings import Settings, differing, read_settings, uneven
from tools.report.svg import inline
from tools.results import Grid, Measure, Run, grids_of, methods_of

SORTING = "A click on a column's name sorts by it. Bold: the best of a row, among complete cells."


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


@dataclass(frozen=True)
class Task:
    """What to report on: the runs below `root`, and how."""

    root: Path
    runs: list[Run]
    measure: Measure
    choice: Choice

    def path(self, run: Run) -> str:
        """A run's path below the root."""
        return run.path.name if run.path == self.root else str(run.path.relative_to(self.root))

    def trees(self) -> dict[tuple[str, Path], list[Run]]:
        """The runs of every tree, by (protocol, tree)."""
        placed = [run for run in self.runs if run.protocol]
        placed.sort(key=lambda run: (list(PROTOCOLS).index(run.protocol), str(run.tree)))
        return {
            place: list(members)
            for place, members in groupby(placed, key=lambda run: (run.protocol, run.tree))
        }

    def title(self, protocol: str, tree: Path) -> str:
        """The protocol's name, and the tree where there are several of that protocol."""
        several = sum(other == protocol for other, _ in self.trees()) > 1
        return f"{PROTOCOLS[protocol]}: {tree}" if several else PROTOCOLS[protocol]


def build(task: Task, files: PlotFiles) -> tuple[Page, list[str]]:
    """The page, and the files that could not be read."""
    settings, damaged = _all_settings(task)
    grids = grids_of(task.runs, task.measure.metric)
    sections = [_results(task, grids, *place, files) for place in task.trees()]
    details, unreadable = detail_section(task.runs, task.path, task.choice, files)
    damaged += unreadable
    records = [(task.path(run), run.record) for run in task.runs if run.record]
    environment = environment_table(records)
    sections += [
        *([details] if details.runs or details.texts else []),
        _costs(task),
        _settings(task, settings),
        Section("Environment", _environment_texts(task), tables=[environment]),
        Section("All runs", tables=[_run_table(task)]),
    ]
    notices = _notices(task, settings, differing_environment(environment), damaged)
    return Page(*_head(task), notices, sections, _footer()), damaged


def _head(task: Task) -> tuple[str, str]:
    complete = sum(run.complete for run in task.runs)
    count = f"{len(task.runs):,} run{'s' if len(task.runs) != 1 else ''}"
    return f"Results in {task.root}", f"{count}, {complete:,} complete. {capital(task.measure.caption)}."


def _footer() -> str:
    return f"Made {datetime.now().astimezone():%Y-%m-%d %H:%M %Z} by python -m tools.report"


def _results(
    task: Task, grids: list[Grid], protocol: str, tree: Path, files: PlotFiles
) -> Section:
    """Tables of one tree; of few-shot runs the curves, too."""
    own = [grid for grid in grids if (grid.protocol, grid.tree) == (protocol, tree)]
    drawn = [table for grid in own for table in tables(grid, task.measure)]
    title = task.title(protocol, tree)
    texts = [f"{capital(task.measure.caption)}. {SORTING}"]
    if protocol != "few_shot":
        return Section(title, texts, tables=drawn)
    panels = shot_curves(own[0], task.measure)
    ylabel = f"{task.measure.metric} in %"
    files.save(title, shots_figure(panels, ylabel))
    plots = [
        Plot(inline(shots_panel(name, curves, ylabel), f"{name}: {ylabel} against shots"))
        for name, curves in panels.items()
    ]
    legend = [
        Plot(inline(swatch(i), ""), method) for i, method in enumerate(own[0].methods)
    ]
    spread = "95% interval" if task.measure.ci95 else "standard deviation"
    texts.append(f"Bands: {spread} over seeds.")
    return Section(title, texts, legend, plots, drawn)


def _costs(task: Task) -> Section:
    records = [
        (PROTOCOLS[protocol], label, run.record)
        for (protocol, _), members in task.trees().items()
        for label, own in methods_of(members).runs.items()
        for run in own
        if run.record
    ]
    if not records:
        return Section("Cost", ["No run recorded parameters, time or memory."])
    text = (
        "Median over runs (lowest – highest). Times depend on the data set and the number of "
        "shots: compare methods that were run on the same ones."
    )
    return Section("Cost", [text], tables=[cost_table(records)])


def _all_settings(task: Task) -> tuple[dict[Path, Settings], list[str]]:
    """Settings by run, and the files that are damaged; runs without the file are left out."""
    settings, damaged = {}, []
    for run in task.runs:
        try:
            settings[run.path] = read_settings(run.path)
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            damaged.append(f"{run.path / 'config.yaml'}: {error}")
    return settings, damaged


def _settings(task: Task, settings: dict[Path, Settings]) -> Section:
    """For each tree the keys that differ between methods, or along data sets and shots."""
    drawn = []
    for (protocol, tree), members in task.trees().items():
        methods = methods_of(members).runs
        label = {run.path: name for name, own in methods.items() for run in own}
        read = [(run, settings[run.path]) for run in members if run.path in settings]
        found = differing(read, lambda run, label=label: label[run.path])
        rows = [
            [name_cell(key), *(text_cell(values.get(name, "–")) for name in methods)]
            for key, values in found.items()
        ]
        if rows:
            drawn.append(Table(task.title(protocol, tree), ["setting", *methods], rows))
    texts = ["From the config.yaml of each run; settings that are the same everywhere are left out."]
    if lacking := len(task.runs) - len(settings):
        texts.append(f"{lacking:,} of {len(task.runs):,} runs have no readable config.yaml.")
    if not drawn:
        texts.append("Nothing differs between runs that are compared.")
    return Section("Settings that differ", texts, tables=drawn)


def _environment_texts(task: Task) -> list[str]:
    texts = ["Versions, commit and device of each run; what is not the same in all runs is marked."]
    if lacking := sum(not run.record for run in task.runs):
        texts.append(f"{lacking:,} of {len(task.runs):,} runs have no results.json to say so.")
    return texts


def _run_table(task: Task) -> Table:
    metric = task.measure.metric
    rows = []
    for run in task.runs:
        value, seconds = run.metrics.get(metric), number(run.record, "seconds")
        rows.append(
            [
                name_cell(task.path(run)),
                Cell(run.state, run.state, "text" if run.complete else "partial", run.reason or ""),
                Cell("-", None, "missing") if value is None else Cell(f"{value:.2f}", value),
                Cell("-", None, "missing") if seconds is None else Cell(clock(seconds), seconds),
            ]
        )
    return Table("", ["run", "state", f"{metric} in %", "time"], rows)


def _notices(
    task: Task, settings: dict[Path, Settings], environment: list[str], damaged: list[str]
) -> list[Notice]:
    """What makes the tables less than they seem."""
    open_runs = [f"{task.path(r)}: {r.state}, {r.reason}" for r in task.runs if not r.complete]
    homeless = [task.path(run) for run in task.runs if not run.protocol]
    notes = [f"{task.path(run)}: {note}" for run in task.runs for note in run.notes]
    found = [
        (open_runs, "{} not complete; nothing of them is averaged"),
        (homeless, "{} outside of every protocol's folders and in no table of results"),
        (notes, "{} with files that contradict each other or are damaged"),
        (_unlike_pictures(task), "{} compared, but trained on different pictures (few_shot_hash)"),
        (_unlike_seeds(task, settings), "{} whose seeds were run with different settings"),
        (damaged, "{} that could not be read"),
        (environment, "{} of the environment not the same in all runs"),
    ]
    things = ["run", "run", "note", "group", "experiment", "file", "part"]
    return [
        Notice(text.format(f"{len(items):,} {thing}{'s' if len(items) != 1 else ''}"), items)
        for (items, text), thing in zip(found, things, strict=True)
        if items
    ]


def _unlike_pictures(task: Task) -> list[str]:
    """Runs of the same data set, shots and seed whose few-shot lists differ."""
    hashes: dict[tuple, dict[str, list[str]]] = {}
    for run in task.runs:
        if run.protocol and (few_shot := run.record.get("few_shot_hash")):
            place = (run.tree, run.split or "", run.dataset, run.shots, run.seed)
            hashes.setdefault(place, {}).setdefault(str(few_shot), []).append(str(run.trainer))
    return [
        f"{dataset}, {shots} shots, seed {seed}: "
        + "; ".join(f"{', '.join(names)}: {few_shot[:12]}" for few_shot, names in found.items())
        for (_, _, dataset, shots, seed), found in hashes.items()
        if len(found) > 1
    ]


def _unlike_seeds(task: Task, settings: dict[Path, Settings]) -> list[str]:
    read = [(run, settings[run.path]) for run in task.runs if run.protocol and run.path in settings]
    found = uneven(read, lambda run: run.path.parent)
    return [f"{task.root / place}: {', '.join(keys)}" for place, keys in found.items()]
