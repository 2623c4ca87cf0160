"""All methods side by side, as a page of the docs.

python -m tools.methods_page > docs/methods.md
"""

import json
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tabulate import tabulate

from dassl.engine import TRAINER_REGISTRY
from frozen_clip import FrozenCLIP
from run.config import default_config
from tools.benchmark.worker import VIT_B16, class_names, settings_of
from tools.method_docs import Facts, all_facts
from tools.results.layout import method_of
from tools.results.published import BACKBONE, table

TIMES = Path(__file__).parents[1] / "docs" / "methods.json"  # of python -m tools.benchmark --json
START = """# Methods

Written by `python -m tools.methods_page > docs/methods.md`. The file of a method in `trainers/`
begins with what it is; [Settings of the methods](settings.md) lists its keys.

*B2N* is base to new, *FS* few-shot, *CD* cross-dataset and domain generalization: see
[The benchmark](protocols.md). *Base half of B2N* and *variants of ImageNet* are for methods that
have learned each class by example. They refuse other classes: a number for them would be another
method's.
"""
PUBLISHED_NOTE = f"""
## Published accuracies

{BACKBONE}, base to new, averages over the eleven datasets with 16 shots, in percent, each as it was
published there. Papers differ in schedules, and in the images they choose settings on.
`parse_test_res.py --published` compares your runs with every published cell.
[Comparing with published numbers](comparability.md) says, method by method, where ours may differ.
"""
COST_NOTE = """
## Cost

Trained parameters on {backbone}, for C classes of 16 images. Seconds of a training step
{how},
of the plain version, which shares nothing, and of ours. [Speed and memory](benchmarks.md) has more
sizes of MMRL and MMRL++.
"""
CLASSES = (2, 3)  # the numbers of classes that parameters are counted with


def page() -> str:
    """The page, in Markdown."""
    default_config()  # registers the trainers
    facts = all_facts()
    times = {case["method"]: case for case in json.loads(TIMES.read_text())}
    one = next(iter(times.values()))
    how = f"with {one['classes']} classes and {one['batch']} images ({one['machine']})"
    parts = [START, methods(facts), PUBLISHED_NOTE, published(facts)]
    return "\n".join(
        [*parts, COST_NOTE.format(backbone=BACKBONE, how=how), costs(facts, times), ""]
    )


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return tabulate(list(rows), head, tablefmt="github", disable_numparse=True)


def trainers_of(facts: Iterable[Facts]) -> list[tuple[Facts, Any]]:
    """Every trainer with the facts of its file; one that only has another name is left out."""
    found = [(f, TRAINER_REGISTRY.get(name)) for f in facts for name in f.trainers]
    return [(f, trainer) for f, trainer in found if "alias" not in vars(trainer)]


def methods(facts: Iterable[Facts]) -> str:
    """A row for each file: what is trained, what unseen classes are answered with."""
    head = ("method", "`--trainer`", "paper", "trained", "unseen classes", "protocols")
    return markdown(head, (_row(f, TRAINER_REGISTRY.get(f.trainers[0])) for f in facts))


def _row(facts: Facts, trainer: Any) -> tuple[str, ...]:
    protocols = "FS, base half of B2N, variants of ImageNet" if trainer.learns_classes else "all"
    names = ", ".join(map("`{}`".format, facts.trainers))
    return facts.name, names, facts.paper, facts.trained, facts.unseen, protocols


def published(facts: Iterable[Facts]) -> str:
    """A row for each published set of averages of a method that is here."""
    rows = []
    ours = dict.fromkeys(method_of(trainer.__name__) for _, trainer in trainers_of(facts))
    for key, base in table().items():
        method, protocol, dataset, shots, metric = key
        if (protocol, dataset, shots, metric) != ("base2new", "average", 16, "base"):
            continue
        if method.partition("(")[0] in ours:
            cells = [table().get((*key[:-1], part)) for part in ("base", "new", "hm")]
            texts = [f"{cell.value:.2f}" if cell else "" for cell in cells]
            rows.append((method, *texts, base.source))
    return markdown(("row", "base", "new", "HM", "read in"), rows)


def costs(facts: Iterable[Facts], times: dict[str, dict[str, Any]]) -> str:
    """A row for each trainer: parameters, and a training step."""
    rows = [
        (f"`{trainer.__name__}`", parameters(trainer.__name__), *_step(times.get(trainer.__name__)))
        for _, trainer in trainers_of(facts)
        if trainer.model_name
    ]
    head = ("trainer", "trained parameters", "plain s/step", "ours s/step", "ratio")
    return markdown(head, rows)


def _step(case: dict[str, Any] | None) -> tuple[str, ...]:
    if case is None:
        return ("", "a fit, no steps", "")
    plain, ours = case["plain"]["step"], case["ours"]["step"]
    return f"{plain:.3g}", f"{ours:.3g}", f"{plain / ours:.1f}x"


def parameters(trainer: str) -> str:
    """How many numbers a trainer learns with C classes: `a` or `a + b C`."""
    few, more = (_count(trainer, count) for count in CLASSES)
    by_class = (more - few) // (CLASSES[1] - CLASSES[0])
    fixed = few - CLASSES[0] * by_class
    texts = [f"{fixed:,}"] * (fixed > 0) + [f"{by_class:,} C"] * (by_class > 0)
    return " + ".join(texts) or "none"


@cache
def _clip() -> FrozenCLIP:
    from clip.model import CLIP

    return FrozenCLIP(CLIP(*VIT_B16), "random")


def _count(trainer: str, classes: int) -> int:
    cls = TRAINER_REGISTRY.get(trainer).Method
    names = class_names(classes)
    method = cls(settings_of(trainer, names), _clip(), names, "a photo of a {}.")
    learner = method.learner
    if hasattr(learner, "resize"):  # a cache of 16 images for each class
        learner.resize(16 * classes)
    return sum(p.numel() for p in learner.parameters() if p.requires_grad)


if __name__ == "__main__":
    print(page(), end="")
