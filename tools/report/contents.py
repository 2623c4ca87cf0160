"""What stands on the page, put together from the runs."""

from datetime import datetime
from pathlib import Path

from common.formats import clock
from tools.report.costs import cost_table, number
from tools.report.elements import Cell, Plot, Table, name_cell, text_cell
from tools.report.environment import differing as differing_environment
from tools.report.environment import environment_table
from tools.report.files import PlotFiles
from tools.report.notices import notices
from tools.report.page import Page, Section
from tools.report.plots import shots_figure, shots_panel, swatch
from tools.report.results import PROTOCOLS, shot_curves, tables
from tools.report.selection import detail_section
from tools.report.settings import Settings, differing, read_settings
from tools.report.svg import inline
from tools.report.task import Task
from tools.results import Grid, grids_of, methods_of

SORTING = "A click on a column's name sorts by it. Bold: the best of a row, among complete cells."


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


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
    found = notices(task, settings, differing_environment(environment), damaged, grids)
    return Page(*_head(task), found, sections, _footer()), damaged


def _head(task: Task) -> tuple[str, str]:
    complete = sum(run.complete for run in task.runs)
    count = f"{len(task.runs):,} run{'s' if len(task.runs) != 1 else ''}"
    return (
        f"Results in {task.root.resolve().name}",
        f"{count}, {complete:,} complete. {capital(task.measure.caption)}.",
    )


def _footer() -> str:
    return f"Made {datetime.now().astimezone():%Y-%m-%d %H:%M %Z} by python -m tools.report"


def _results(task: Task, grids: list[Grid], protocol: str, tree: Path, files: PlotFiles) -> Section:
    """Tables of one tree; of few-shot runs the curves, too."""
    own = [grid for grid in grids if (grid.protocol, grid.tree) == (protocol, tree)]
    drawn = [table for grid in own for table in tables(grid, task.measure)]
    title = task.title(protocol, tree)
    texts = [f"{capital(task.measure.caption)}. {SORTING}"]
    if protocol != "few_shot":
        return Section(title, texts, tables=drawn)
    panels = shot_curves(own[0], task.measure)
    ylabel = f"{task.measure.metric} in %"
    files.save(title, lambda: shots_figure(panels, ylabel))
    plots = [
        Plot(inline(shots_panel(name, curves, ylabel), f"{name}: {ylabel} against shots"))
        for name, curves in panels.items()
    ]
    legend = [Plot(inline(swatch(i), ""), method) for i, method in enumerate(own[0].methods)]
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
        return Section(
            "Cost", ["No run in a protocol's folders recorded parameters, time or memory."]
        )
    text = (
        "Trained parameters, time and peak memory (of the GPU; without one of the whole process): "
        "median over runs, below it lowest – highest. Times depend on data set and shots: compare "
        "methods that were run on the same ones. –: not recorded."
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
    texts = [
        "From the `config.yaml` of each run; settings that are the same everywhere are left out."
    ]
    if lacking := len(task.runs) - len(settings):
        texts.append(f"{lacking:,} of {len(task.runs):,} runs have no readable `config.yaml`.")
    if not drawn:
        texts.append("Nothing differs between runs that are compared.")
    return Section("Settings that differ", texts, tables=drawn)


def _environment_texts(task: Task) -> list[str]:
    texts = ["Versions, commit and device of each run; what is not the same in all runs is marked."]
    if lacking := sum(not run.record for run in task.runs):
        texts.append(f"{lacking:,} of {len(task.runs):,} runs have no `results.json` to say so.")
    return texts


def _run_table(task: Task) -> Table:
    metric = task.measure.metric
    rows = []
    for run in task.runs:
        value, seconds = run.metrics.get(metric), number(run.record, "seconds")
        rows.append(
            [
                name_cell(task.path(run)),
                Cell(run.state, run.state, "text" if run.complete else "differs", run.reason or ""),
                Cell("-", None, "missing") if value is None else Cell(f"{value:.2f}", value),
                Cell("-", None, "missing") if seconds is None else Cell(clock(seconds), seconds),
            ]
        )
    return Table("", ["run", "state", f"{metric} in %", "time"], rows)
