"""Results of runs: found, read, brought together. No torch, and nothing is ever written.

    from tools.results import find_runs, grids_of, Measure

    runs = find_runs("output")                # one flat list of Run, in natural order of paths
    for run in runs:
        run.state                             # complete, unfinished, missing or unreadable
        run.metrics.get("accuracy")           # percent, all digits; {} unless complete
        run.trainer, run.cfg, run.dataset, run.protocol, run.shots, run.seed, run.half
        run.record                            # results.json as it is ({} without one)
        run.reason, run.notes                 # why there is no result; what does not count
        run.settings                          # the config as flat keys and texts, if any file says
        run.astray                            # why a run that seems to lie in a tree is in no grid

    grids = grids_of(runs, "accuracy")        # one comparison each: datasets x methods x parts
    for grid in grids:
        for method in grid.methods:           # labels: a trainer, with what tells two apart
            cell = grid.cell("eurosat", method, "new")  # parts: base, new, HM; `4 shots`; metric
            cell.mean, cell.spread(Measure()), cell.values, cell.lacking, cell.state
            cell.unlike                       # why the mean is not one of like with like
            over = grid.complete(method, "new")          # or grid.common(): for all methods
            grid.average(method, "new", over)            # a Cell; HM of the averages for "HM"
        grid.notes                            # what must be said below a table of this grid
    cell_frame(grids)                         # all of it as one pandas frame: that of --format csv

`Run` says what each field holds, `Cell` what its states mean. Runs that lie in no protocol's tree
have `protocol` None and are in no grid; what they are is taken from their results.json.
"""

from tools.results.frame import Cell, Grid, Measure, grids_of, methods_of
from tools.results.reader import Run, find_runs, is_run, read_run
from tools.results.tables import cell_frame

__all__ = [
    "Cell",
    "Grid",
    "Measure",
    "Run",
    "cell_frame",
    "find_runs",
    "grids_of",
    "is_run",
    "methods_of",
    "read_run",
]
