"""`python -m tools.data list | verify | download | toy | features | weights`; see their --help."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from run.command import Parser, guarded, path, piped, positive, printing_stops_nothing
from tools.data.catalogue import Entry, catalogue, find_entry


def parser() -> argparse.ArgumentParser:
    top = Parser(
        prog="python -m tools.data",
        description="Is the data there, is it whole, and how to get it.",
        epilog="Exit codes: 0 all is well, 1 data is missing or damaged, 2 wrong usage.",
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    default = os.environ.get("DATA") or "data"

    def add(name: str, work: object, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(work=work)
        if work in (run_list, run_verify, run_download, run_features):
            text = "directory of the datasets (default: $DATA, else data; now %(default)s)"
            command.add_argument("--root", type=path, default=default, help=text)
        return command

    add("list", run_list, "each dataset: present, incomplete or missing, with numbers of images")
    verify = add("verify", run_verify, "check split files, numbers, and that every image is there")
    verify.add_argument("names", nargs="+", metavar="NAME", help="as in configs/datasets, or 'all'")
    verify.add_argument("--deep", action="store_true", help="decode every image, too")
    get = add("download", run_download, "get what is missing of a dataset")
    get.add_argument("name", metavar="NAME", help="as in configs/datasets")
    text = "a file that you have: one of the set's files, or an archive with some; repeatable"
    get.add_argument("--from", dest="given", type=path, action="append", default=[], help=text)
    toy = add("toy", run_toy, "draw all datasets, small, in their real layouts")
    toy.add_argument("root", type=path, help="directory to draw into, not that of real data")
    toy.add_argument("names", nargs="*", metavar="NAME", help="only these (default: all)")
    toy.add_argument("--classes", type=positive, default=8)
    toy.add_argument("--train", type=positive, default=20, help="training images a class")
    kept = add("features", run_features, "image features that runs have kept (FEATURES.STORE)")
    kept.add_argument("action", choices=("list", "drop"))
    kept.add_argument("names", nargs="*", metavar="FILE", help="drop these alone (default: all)")
    text = "the CLIPs that MODEL.BACKBONE.NAME knows by name, and which are in the cache"
    add("weights", run_weights, text)
    return top


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    interrupted = "interrupted; a download resumes when started again"
    return guarded(lambda: args.work(args), args, interrupted)


def run_list(args: argparse.Namespace) -> int:
    from tools.data.survey import PRESENT, describe, survey  # late: it loads the engine

    print(f"{args.root.resolve()}:")
    states = set()
    for entry in catalogue().values():
        found = survey(entry, args.root)
        of = " (published)" if not found.found and not found.drawn else ""
        drawn = ", drawn" if found.drawn else ""
        counts = describe(found.found or found.expected)
        print(f"  {entry.config:16} {found.state:11} {counts}{of}{drawn}")
        states.add(found.state)
    print("Why one is incomplete: python -m tools.data verify NAME")
    return 0 if states == {PRESENT} else 1


def run_verify(args: argparse.Namespace) -> int:
    from tools.data.survey import PRESENT, describe, survey

    everything = "all" in args.names
    entries = list(catalogue().values()) if everything else [find_entry(n) for n in args.names]
    wrong = 0
    for entry in entries:
        found = survey(entry, args.root, check_files=True, deep=args.deep)
        if found.state == PRESENT:
            note = "" if has_split_file(entry, args.root) else " (split made here, not published)"
            print(f"{entry.config}: ok, {describe(found.expected)}{note}")
            continue
        wrong += 1
        print(f"{entry.config}: {found.state}")
        print("\n".join(f"  {line}" for text in found.problems for line in text.splitlines()))
    if wrong:
        get = "python -m tools.data download NAME"
        print(f"{wrong} of {len(entries)} not in order. Get one: {get}")
    return 1 if wrong else 0


def has_split_file(entry: Entry, root: Path) -> bool:
    """Also true of a dataset that has none."""
    names = [s.file for s in entry.sources if s.file.startswith("split_zhou")]
    return all((root / entry.folder / name).is_file() for name in names)


@printing_stops_nothing()
def run_download(args: argparse.Namespace) -> int:
    from tools.data.download import advice, download

    entry = find_entry(args.name)
    problems = download(entry, args.root, args.given)
    if problems:
        print(advice(entry, args.root, problems), file=sys.stderr)
        return 1
    print(f"{entry.config}: complete. Check it: python -m tools.data verify {entry.config}")
    return 0


@printing_stops_nothing()
def run_toy(args: argparse.Namespace) -> None:
    from tools.data.toy import write_toy

    folders = write_toy(args.root, args.names, classes=args.classes, train=args.train)
    root = shlex.quote(str(args.root))
    print(f"{args.root}: {len(folders)} datasets drawn. Use them: --root {root}")


def run_features(args: argparse.Namespace) -> None:
    from training.feature_store import ENDING, FeatureStore, directory_for

    if not args.root.is_dir():
        raise ValueError(f"--root {args.root} is no directory: give that of the datasets")
    places = dict.fromkeys((directory_for(args.root), directory_for(None)))
    entries = [entry for place in places for entry in FeatureStore(place, most=0).entries()]
    if unknown := set(args.names) - {entry.path.stem for entry in entries}:
        searched = " and ".join(map(str, places))
        raise ValueError(f"{', '.join(unknown)}: there is no such {ENDING} file in {searched}")
    for place in places:
        print(f"{place}{':' if place == directory_for(args.root) else ' (of own images):'}")
        for file, size, _, said in entries:
            if file.parent != place or (args.names and file.stem not in args.names):
                continue
            dropped = "dropped" if args.action == "drop" else ""
            print(f"  {file.stem} {size / 1e6:8.1f} MB  {_about(said)} {dropped}".rstrip())
            if dropped:
                file.unlink(missing_ok=True)


def _about(said: dict[str, Any]) -> str:
    """What a file of image features says of itself."""
    if not said:
        return "damaged"
    about = f"{said['dataset']}, {said['images']} images, {said['clip']}, {said['computed']}"
    return about + (f", random view {said['view']}" if said.get("view") else "")


def run_weights(args: argparse.Namespace) -> None:
    from frozen_clip import names, weights_file
    from frozen_clip.weights import hub

    print("By name:")
    for name in names():
        path = weights_file(name)
        print(f"  {name:18} {path if path.is_file() else 'downloaded on first use'}")
    print("From the Hugging Face hub, in the cache:")
    for name, size in hub.cached() or [("none", 0)]:
        print(f"  {name:50} {f'{size / 1e6:,.0f} MB' if size else ''}".rstrip())
    print(f"Others: {hub.PREFIX}OWNER/NAME[@REVISION], a directory or a file (docs/weights.md)")


if __name__ == "__main__":
    sys.exit(piped(main))
