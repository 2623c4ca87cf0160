"""Plans and executes many runs: methods x datasets x seeds x shots of a protocol.

    python -m tools.sweep base2new --methods MMRL MMRLPlus CoOp --datasets all --seeds 1 2 3
    python -m tools.sweep few_shot --methods MMRL --datasets dtd eurosat --shots 1 4 16 --dry-run
    python -m tools.sweep cross_dataset --methods all --on slurm --partition gpu --gpus 1
    python -m tools.sweep status                 # what is done, running, waiting, failed
    python -m tools.sweep cancel                 # have what runs save and end

The same command again goes on: finished runs are skipped, interrupted ones continue. A test waits
for its training run. A run that fails is tried again, does not stop the others, and is reported at
the end. Exit codes: 0 all done, 1 some failed, 2 wrong input, 75 and 130 stopped and saved.
"""

import argparse
import os
import re
import shlex
import sys
import time
from functools import partial
from os.path import expanduser
from typing import Any

from run.command import Parser, guarded, path, positive, printing_stops_nothing
from tools.sweep import slurm
from tools.sweep.driver import run_here, run_on_slurm
from tools.sweep.executors import environments
from tools.sweep.plan import check_plan
from tools.sweep.process import train_command
from tools.sweep.protocols import PARTS, PROTOCOLS, REPO, Request, Run, expand, left_out
from tools.sweep.status import failures, plan_table, status_table
from tools.sweep.store import DONE, FAILED, RunStore
from tools.sweep.worker import Worker, run_in_foreground

WAIT = 120.0  # seconds that `cancel` waits for runs to save
SLURM_FLAGS = {  # and submitit's names of these options; _: not for submitit
    "--slurm-file": "_file",
    "--slurm-option": "_options",
    "--partition": "partition",
    "--account": "account",
    "--time": "time",
    "--gpus": "gpus_per_node",
    "--mem-gb": "mem",
    "--job-name": "job_name",
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(prog="python -m tools.sweep", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for protocol in PROTOCOLS:
        _add_protocol(commands.add_parser(protocol, help=f"the runs of {protocol}"))
    status = commands.add_parser("status", help="what is done, running, waiting and failed")
    status.add_argument("--watch", action="store_true", help="again every few seconds")
    cancel = commands.add_parser("cancel", help="have what runs save and end")
    for sub in (status, cancel):
        _add_output(sub)
    return parser.parse_args(argv)


def _add_output(parser: argparse.ArgumentParser) -> None:
    text = "directory of the runs (default: $OUTPUT, else output/)"
    default = os.environ.get("OUTPUT") or REPO / "output"
    parser.add_argument("--output", type=path, default=default, help=text)


def _add_protocol(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add_path = partial(add, type=expanduser)
    add("--methods", nargs="+", required=True, metavar="METHOD", help="trainers, or all")
    add_path("--datasets", nargs="+", default=["all"], metavar="NAME", help="or YAML files, or all")
    add("--seeds", nargs="+", type=_seed, default=[1, 2, 3], metavar="SEED")
    add("--shots", nargs="+", type=_shots, default=[], metavar="K", help="per class; -1: all")
    add_path("--source", default="imagenet", help="cross_dataset: what is trained on")
    add("--part", choices=PARTS, help="only training, or only tests of trained weights")
    add("--root", type=path, default=os.environ.get("DATA") or REPO / "data", help="of the data")
    _add_output(parser)
    add("--cfg", help="config in configs/trainers/<METHOD>/, without .yaml")
    add("--tag", help="for other settings: <cfg>@<tag> in the directories and tables")
    add_path("--backbone", help="CLIP: a name, a file or 'small'")
    text = "file with a method or dataset; repeatable"
    add_path("--plugin", action="append", default=[], help=text)
    add_path("--plugin-path", action="append", default=[], help="see train.py --help; repeatable")
    add("--on", choices=["local", "slurm", "foreground"], default="local")
    add("--dry-run", action="store_true", help="only print the plan, and what it will take")
    add("--commands", action="store_true", help="only print the commands")
    add("--retries", type=_whole, default=1, help="how often a failed run is tried again")
    add("--workers", type=positive, help="runs at once (default: one per visible GPU, else one)")
    add("--cpus", type=positive, help="threads of a run")
    group = parser.add_argument_group("--on slurm")
    more: dict[str, dict[str, Any]] = {
        "--slurm-file": {"type": path, "help": "YAML of options, as submitit names them"},
        "--slurm-option": {"action": "append", "help": "of sbatch, such as qos=low; repeatable"},
        "--time": {"type": positive, "help": "minutes of a job (120)"},
        "--gpus": {"type": _whole, "help": "of a job"},
        "--mem-gb": {"type": lambda text: f"{positive(text)}GB", "help": "of a job"},
    }
    for flag, name in SLURM_FLAGS.items():
        metavar = "NAME=VALUE" if flag == "--slurm-option" else flag[2:].upper()
        group.add_argument(flag, dest=name, metavar=metavar, **more.get(flag, {}))
    add("opts", nargs="*", metavar="-- KEY VALUE", help="options of the config, behind --")


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def _shots(text: str) -> int:
    return -1 if text == "-1" else positive(text)


def _seed(text: str) -> int:
    if not re.fullmatch(r"0|[1-9][0-9]{0,17}", text):
        raise argparse.ArgumentTypeError(f"a seed is a whole number, not {text!r}")
    return int(text)


def main(argv: list[str] | None = None) -> int:
    """Exit code: 0 all done, 1 some failed, 2 wrong input, 75 or 130 stopped."""
    args = parse_args(argv)
    work = {"status": show_status, "cancel": cancel_all}.get(args.command, sweep)
    return guarded(lambda: work(args), args)


def sweep(args: argparse.Namespace) -> int:
    """Expand a protocol and compute what is not finished."""
    _check_flags(args)
    request = _request(args)
    runs = expand(request)
    if note := left_out(request):
        print(note, file=sys.stderr)
    store = RunStore(args.output.absolute())
    if args.commands:
        print("\n".join(shlex.join(train_command(run.arguments)) for run in runs))
        return 0
    if _needs_check(args, runs):
        local = args.on != "slurm" and not args.dry_run  # Slurm's nodes may have other disks
        need_data = [local and not store.is_finished(run.directory, run.after) for run in runs]
        if (stopped := check_plan(runs, need_data)) is not None:
            return stopped
    if args.dry_run:
        here = args.on == "local"
        workers = len(environments(args.workers, args.cpus)) if here else args.workers or 1
        print(plan_table(store, runs, workers))
        return 0
    with printing_stops_nothing():
        if args.on == "foreground":
            return run_in_foreground(store.output, runs)
        return _execute(args, store, runs)


def _check_flags(args: argparse.Namespace) -> None:
    """ValueError for flags that contradict each other."""
    if args.command == "few_shot" and args.part == "test":
        raise ValueError("few_shot tests where it trains: leave out --part test")
    if odd := [word for word in args.opts if word.startswith("--")]:
        raise ValueError(f"{odd[0]} stands behind --, where KEY VALUE ... is expected")
    given = [flag for flag, name in SLURM_FLAGS.items() if getattr(args, name) is not None]
    if given and args.on != "slurm":
        raise ValueError(f"{', '.join(given)} is for --on slurm; leave it out, or add --on slurm")


def _request(args: argparse.Namespace) -> Request:
    return Request(
        protocol=args.command,
        methods=args.methods,
        output=args.output.absolute(),
        data=args.root.absolute(),
        datasets=args.datasets,
        seeds=args.seeds,
        shots=args.shots,
        source=args.source,
        parts=[args.part] if args.part else PARTS,
        cfg=args.cfg,
        backbone=args.backbone,
        plugins=args.plugin,
        plugin_paths=args.plugin_path,
        options=args.opts,
        tag=args.tag,
    )


def _needs_check(args: argparse.Namespace, runs: list[Run]) -> bool:
    """Whether the plan is checked; in the foreground, where nothing is there yet, the first run
    says at once what is wrong."""
    commands = [words for run in runs for words in (run.arguments, run.training) if words]
    directories = {words[words.index("--output-dir") + 1] for words in commands}
    return args.on != "foreground" or any(map(os.path.exists, directories))


def _execute(args: argparse.Namespace, store: RunStore, runs: list[Run]) -> int:
    submitter = None
    if args.on == "slurm":
        flags = {name: getattr(args, name) for name in SLURM_FLAGS.values() if name[0] != "_"}
        flags |= {"cpus_per_task": args.cpus, "array_parallelism": args.workers}
        options = slurm.read_options(args._file, flags, args._options or [])
        worker = Worker(store.output, [], store.generation(), args.retries)
        submitter = slurm.Submitter(store.root / "submitit", worker, options)
    store.save_plan(runs)
    store.forget_failures(
        run.directory for run in runs if not store.is_finished(run.directory, run.after)
    )
    if submitter is not None:
        return run_on_slurm(store, runs, args.retries, submitter)
    return run_here(store, runs, args.retries, environments(args.workers, args.cpus))


def show_status(args: argparse.Namespace) -> int:
    """Print the table of all sweeps of an output directory."""
    store = RunStore(args.output.absolute())
    while True:
        runs = _planned(store)
        text = status_table(store, runs)
        if args.watch and sys.stdout.isatty():
            print("\033[H\033[J", end="")  # the whole screen
        print(text, flush=True)
        statuses = {store.status(*run).name for run in runs.items()}
        if not args.watch or statuses <= {DONE, FAILED}:
            break
        time.sleep(3)
    if failed := failures(store, runs, lines=3):
        print("\n" + "\n\n".join(failed))
    return 0


def cancel_all(args: argparse.Namespace) -> int:
    """Stop all sweeps of an output directory, on whatever machine they run."""
    store = RunStore(args.output.absolute())
    runs = _planned(store)
    store.next_generation()
    running = [directory for directory in runs if store.holder(directory)]
    jobs = set(store.jobs().values())
    queued = slurm.queue() if jobs else {}
    if queued is None:
        raise OSError("Slurm does not answer (squeue); say it again, so that no job stays behind")
    waiting = [job for job, state in queued.items() if job in jobs and state == "PENDING"]
    slurm.cancel_pending(waiting)
    print(f"{len(running)} runs are told to save and end, {len(waiting)} jobs were waiting")
    end = time.monotonic() + WAIT
    while running and time.monotonic() < end:
        time.sleep(0.2)
        running = [directory for directory in running if store.holder(directory)]
    for directory in running:
        print(f"still running: {directory}: {store.holder(directory)}")
    return 1 if running else 0


def _planned(store: RunStore) -> dict[str, str | None]:
    if runs := store.plan():
        return runs
    raise ValueError(
        f"no sweep was started in {store.output}; name its directory with --output, or start one: "
        "python -m tools.sweep --help"
    )
