"""Name what is in images, with what a run of train.py learned.

    python -m tools.predict --model-dir output/mine photo.jpg folder_of_photos
    python -m tools.predict --model-dir output/mine --classes "cat,dog,red panda" photo.jpg
    python -m tools.predict --model-dir output/mine --export output/exported

Of directories every image below them is taken. An image that cannot be read is skipped and listed
at the end, and the exit code is then 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from os.path import expanduser
from pathlib import Path
from typing import TYPE_CHECKING

from common.text_files import read_text
from run.command import Parser, guarded, path, piped

if TYPE_CHECKING:  # late: --help must not wait for torch
    from tools.predict.classifier import Classifier, Prediction
    from tools.predict.images import Skipped

    Predictions = dict[str, list[Prediction]]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(prog="python -m tools.predict", description=__doc__)
    add = parser.add_argument
    add_path = partial(add, type=expanduser)
    add_path("images", nargs="*", metavar="IMAGE|DIRECTORY")
    add("--model-dir", type=path, required=True, metavar="RUN", help="directory of a training run")
    add("--topk", type=int, default=5, metavar="K", help="classes to show (default: %(default)s)")
    add("--json", action="store_true", help="print JSON instead of a table")
    add_path("--classes", help="'a,b,c' or a file with a name a line: choose from these instead")
    add("--template", help="the template for the names, such as 'a photo of a {}.'")
    add("--device", help="auto, cpu, cuda, cuda:1, mps or xpu (default: auto)")
    add("--precision", help="fp32, amp or fp16 (default: the run's)")
    add("--batch-size", type=int, metavar="N", help="images at a time (default: the run's)")
    add("--workers", type=int, metavar="N", help="processes that read (default: as many as help)")
    add("--load-epoch", type=int, metavar="N", help="checkpoint (default: the one tested)")
    add_path("--backbone", help="CLIP's weights, if they are not where the run had them")
    add("--exif-orientation", help="apply or ignore (default: what the run did)")
    add_path("--root", help="directory of the datasets, for a run without classes.json")
    add_path("--plugin", action="append", default=[], help="file the run was given; repeatable")
    add_path("--plugin-path", action="append", default=[], help="see train.py --help; repeatable")
    add("--no-cache", action="store_true", help="keep no text features in the run's folder")
    add("--export", type=path, metavar="DIR", help="write the image side and the class matrix")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """0 when done, 1 when images were skipped, 2 for bad input, 3 for NaN, 130 for Ctrl-C."""
    args = parse_args(argv)
    return guarded(lambda: run(args), args)


def run(args: argparse.Namespace) -> int:
    check_args(args)
    from tools.predict import load

    classifier = load(
        args.model_dir,
        classes=None if args.classes is None else read_classes(args.classes),
        template=args.template,
        device="cpu" if args.export else args.device,
        precision="fp32" if args.export else args.precision,
        epoch=args.load_epoch,
        backbone=args.backbone,
        exif_orientation=args.exif_orientation,
        root=args.root,
        plugins=args.plugin,
        plugin_paths=args.plugin_path,
        cache=not args.no_cache,
    )
    if args.export:
        from tools.predict.export import export

        print(export(classifier, args.export))
        return 0
    classifier.batch_size = args.batch_size or classifier.batch_size
    return predict(classifier, args)


def check_args(args: argparse.Namespace) -> None:
    """ValueError for what argparse lets pass."""
    if bool(args.images) == bool(args.export):
        raise ValueError("give images or directories of images, or --export DIR: one of the two")
    if args.export and (args.device or args.precision):
        raise ValueError("--export is always made on the CPU, in fp32: leave out --device")
    for flag, least in (("topk", 1), ("batch_size", 1), ("workers", 0)):
        value = getattr(args, flag)
        if value is not None and value < least:
            name = flag.replace("_", "-")
            raise ValueError(f"--{name} is {value}; allowed is a number from {least}")


def read_classes(text: str) -> list[str]:
    """The names in a file, one a line, or between commas."""
    file = Path(text)
    if file.is_file():
        return [line for line in read_text(file).split("\n") if line.strip()]
    if "," not in text and (file.suffix or "/" in text):
        raise FileNotFoundError(f"--classes {text}: there is no such file")
    return text.split(",")


def predict(classifier: Classifier, args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from tools.predict.images import Skipped, find_images

    paths, skipped = find_images(args.images)
    predictions: Predictions = {}
    stream = classifier.stream(paths, args.topk, args.workers)
    for name, found in tqdm(stream, total=len(paths), unit=" images", leave=False, disable=None):
        if isinstance(found, str):
            skipped.append(Skipped(name, found))
        else:
            predictions[name] = found
    if args.json:
        print(as_json(classifier, predictions, skipped))
    elif predictions:
        print(as_table(predictions))
    if skipped:
        print(f"skipped {len(skipped)}:", file=sys.stderr)
        for name, why in skipped:
            print(f"  {name}: {why}", file=sys.stderr)
    if classifier.tilted and args.exif_orientation is None:
        print(
            f"note: {len(classifier.tilted)} images, first {classifier.tilted[0]}, are not upright "
            "by their EXIF orientation, which this run ignored in training and ignores here; "
            "--exif-orientation apply turns them",
            file=sys.stderr,
        )
    return 1 if skipped else 0


def as_json(classifier: Classifier, predictions: Predictions, skipped: list[Skipped]) -> str:
    content = {
        "trainer": classifier.trainer_name,
        "seen_classes": classifier.seen,
        "exif_orientation": "apply" if classifier.upright else "ignore",
        "classes": classifier.classes,
        "predictions": [
            {"image": path, "top": [prediction._asdict() for prediction in found]}
            for path, found in predictions.items()
        ],
        "skipped": [{"image": path, "reason": why} for path, why in skipped],
    }
    return json.dumps(content, indent=1, allow_nan=False)


def as_table(predictions: Predictions) -> str:
    from tabulate import tabulate

    rows = [
        [path, *(f"{p.probability:.1%} {p.name}" for p in found)]
        for path, found in predictions.items()
    ]
    headers = ["image", *map(str, range(1, len(rows[0])))]
    return tabulate(rows, headers, disable_numparse=True)


if __name__ == "__main__":
    sys.exit(piped(main))
