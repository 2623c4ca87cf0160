"""Plans and executes many runs: methods x data sets x seeds x shots of a protocol.

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

from run.command import Parser, guarded, path, positive, printing_stops_nothing
from tools.sweep.books import Books
from tools.sweep.compare import compared
from tools.sweep.protocols import PARTS, PROTOCOLS, REPO, Request, Run, expand

WAIT = 120.0  # seconds that `cancel` waits for runs to save


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
    text = "folder of the runs (default: $OUTPUT, else output/)"
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
    add("--cfg", help="settings in configs/trainers/<METHOD>/, without .yaml")
    add("--tag", help="for other settings: <cfg>@<tag> in the folders, and so in the tables")
    add_path("--backbone", help="CLIP: a name, a file or 'small'")
    text = "file with a method or data set; repeatable"
    add_path("--plugin", action="append", default=[], help=text)
    add_path("--plugin-path", action="append", default=[], help="see train.py --help; repeatable")
    add("--on", choices=["local", "slurm", "foreground"], default="local")
    add("--dry-run", action="store_true", help="only print the plan, and what it will take")
    add("--commands", action="store_true", help="only print the commands")
    add("--retries", type=_whole, default=1, help="how often a failed run is tried again")
    add("--workers", type=positive, help="runs at once (default: one per visible GPU, else one)")
    add("--cpus", type=positive, help="threads of a run")
    slurm = parser.add_argument_group("--on slurm")
    slurm.add_argument("--slurm-file", type=path, help="YAML of options, as submitit names them")
    slurm.add_argument("--partition")
    slurm.add_argument("--account")
    slurm.add_argument("--time", type=positive, help="minutes of a job (120)")
    slurm.add_argument("--gpus", type=_whole, help="of a job")
    slurm.add_argument("--mem-gb", type=positive, help="of a job")
    slurm.add_argument("--job-name")
    text = "of sbatch, such as qos=low; repeatable"
    slurm.add_argument("--slurm-option", action="append", metavar="NAME=VALUE", help=text)
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
    output = args.output.absolute()
    _refuse_flags(args)
    runs = expand(
        Request(
            protocol=args.command,
            methods=args.methods,
            output=output,
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
    )
    books = Books(output)
    if args.commands:
        from tools.sweep.child import command

        print("\n".join(shlex.join(command(run.arguments)) for run in runs))
        return 0
    if _to_compare(args, runs) and (stopped := compared(runs)) is not None:
        return stopped
    if args.dry_run:
        from tools.sweep.plan import describe

        print(describe(books, runs, _workers(args)))
        return 0
    if args.on == "foreground":
        from tools.sweep.foreground import in_foreground

        with printing_stops_nothing():
            return in_foreground(output, runs)
    return _execute(args, books, runs)


def _to_compare(args: argparse.Namespace, runs: list[Run]) -> bool:
    """Whether runs are compared with what is there; in the foreground, where nothing is there, the
    first of them says at once what is wrong."""
    commands = [words for run in runs for words in (run.arguments, run.training) if words]
    folders = {words[words.index("--output-dir") + 1] for words in commands}
    return args.on != "foreground" or any(map(os.path.exists, folders))


def _workers(args: argparse.Namespace) -> int:
    """How many runs will be computed at once."""
    from tools.sweep.local import environments

    if args.on == "local":
        return len(environments(args.workers, args.cpus))
    return args.workers or 1


@printing_stops_nothing()
def _execute(args: argparse.Namespace, books: Books, runs: list[Run]) -> int:
    from tools.sweep.driver import run_here, run_on_slurm
    from tools.sweep.local import environments
    from tools.sweep.slurm import SlurmJobs, read_options
    from tools.sweep.worker import Worker

    flags = {
        "partition": args.partition,
        "account": args.account,
        "time": args.time,
        "gpus_per_node": args.gpus,
        "cpus_per_task": args.cpus,
        "mem": args.mem_gb and f"{args.mem_gb}GB",
        "job_name": args.job_name,
        "array_parallelism": args.workers,
    }
    more = args.slurm_option or []
    jobs = None
    if args.on == "slurm":
        worker = Worker(books.output, [], books.generation(), args.retries)
        options = read_options(args.slurm_file, flags, more)
        jobs = SlurmJobs(books.root / "submitit", worker, options)
    books.save_plan(runs)
    left = [run.folder for run in runs if not books.is_finished(run.folder, run.after)]
    books.forget_failures(left)
    if jobs is not None:
        return run_on_slurm(books, runs, args.retries, jobs)
    return run_here(books, runs, args.retries, environments(args.workers, args.cpus))


def _refuse_flags(args: argparse.Namespace) -> None:
    """ValueError for what does not go together."""
    if args.command == "few_shot" and args.part == "test":
        raise ValueError("few_shot tests where it trains: leave out --part test")
    if odd := [word for word in args.opts if word.startswith("--")]:
        raise ValueError(f"{odd[0]} stands behind --, where KEY VALUE ... is expected")
    names = (
        "slurm_file",
        "partition",
        "account",
        "time",
        "gpus",
        "mem_gb",
        "job_name",
        "slurm_option",
    )
    given = [f"--{name.replace('_', '-')}" for name in names if getattr(args, name) is not None]
    if given and args.on != "slurm":
        raise ValueError(f"{', '.join(given)} is for --on slurm; leave it out, or add --on slurm")


def show_status(args: argparse.Namespace) -> int:
    """Print the table of all sweeps of an output folder."""
    from tools.sweep.status import DONE, FAILED, failures, look, table

    books = Books(args.output.absolute())
    while True:
        runs = _planned(books)
        text = table(books, runs)
        if args.watch and sys.stdout.isatty():
            print("\033[H\033[J", end="")  # the whole screen
        print(text, flush=True)
        states = {look(books, folder, after).state for folder, after in runs.items()}
        if not args.watch or states <= {DONE, FAILED}:
            break
        time.sleep(3)
    if failed := failures(books, runs, lines=3):
        print(f"\n{failed}")
    return 0


def cancel_all(args: argparse.Namespace) -> int:
    """Stop all sweeps of an output folder, on whatever machine they run."""
    from tools.sweep import slurm

    books = Books(args.output.absolute())
    runs = _planned(books)
    books.next_generation()
    running = [folder for folder in runs if books.holder(folder)]
    jobs = set(books.jobs().values())
    queued = slurm.queue() if jobs else {}
    if queued is None:
        raise OSError("Slurm does not answer (squeue); say it again, so that no job stays behind")
    waiting = [job for job, state in queued.items() if job in jobs and state == "PENDING"]
    slurm.cancel(waiting)
    print(f"{len(running)} runs are told to save and end, {len(waiting)} jobs were waiting")
    end = time.monotonic() + WAIT
    while running and time.monotonic() < end:
        time.sleep(0.2)
        running = [folder for folder in running if books.holder(folder)]
    for folder in running:
        print(f"still running: {folder}: {books.holder(folder)}")
    return 1 if running else 0


def _planned(books: Books) -> dict[str, str | None]:
    if runs := books.plan():
        return runs
    raise ValueError(
        f"no sweep was started in {books.output}; name its folder with --output, or start one: "
        "python -m tools.sweep --help"
    )
