"""What a run answered: accuracy per class and which classes were taken for which."""

import csv
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple


class ClassResult(NamedTuple):
    """`correct` of `total` test pictures of one class; `label` counts from 0 within the run."""

    label: int
    name: str
    total: int
    correct: int

    @property
    def accuracy(self) -> float | None:
        """Percent; None for a class without test pictures."""
        return 100 * self.correct / self.total if self.total else None


@dataclass(frozen=True)
class Answers:
    """Counts of (label, prediction) over all test pictures of a run."""

    counts: Counter[tuple[int, int]]

    @property
    def labels(self) -> list[int]:
        """Every label that occurs as truth or as answer."""
        return sorted({label for pair in self.counts for label in pair})

    def totals(self) -> Counter[int]:
        """Test pictures by label."""
        totals: Counter[int] = Counter()
        for (label, _), count in self.counts.items():
            totals[label] += count
        return totals

    def mistakes(self) -> list[tuple[int, int, int]]:
        """(label, prediction, pictures) of every confusion, the most frequent first."""
        wrong = [(a, b, count) for (a, b), count in self.counts.items() if a != b]
        return sorted(wrong, key=lambda mistake: (-mistake[2], mistake[:2]))


def read_answers(file: Path) -> Answers:
    """The counts of a `predictions.csv` (impath, label, prediction, probability).

    Raises ValueError when it is not such a file, OSError when it cannot be read.
    """
    counts: Counter[tuple[int, int]] = Counter()
    with open(file, encoding="utf-8", errors="replace", newline="") as lines:
        try:
            for row in csv.DictReader(lines):
                counts[_label(row, "label"), _label(row, "prediction")] += 1
        except csv.Error as error:
            raise ValueError(f"not a table: {error}") from error
    if not counts:
        raise ValueError("no predictions in it")
    return Answers(counts)


def _label(row: Mapping[str, Any], column: str) -> int:
    text = row.get(column)
    if not (isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 10):
        raise ValueError(f"column '{column}' should hold labels, but holds {text!r}")
    return int(text)


def class_results(record: Mapping[str, Any], answers: Answers | None) -> list[ClassResult]:
    """Per class: as the record says, else counted from the answers; empty if neither is there.

    Raises ValueError for entries that cannot be true.
    """
    if entries := record.get("per_class"):
        return _checked(entries)
    if answers is None:
        return []
    return [
        ClassResult(label, class_name(label), total, answers.counts[label, label])
        for label, total in sorted(answers.totals().items())
    ]


def _checked(entries: object) -> list[ClassResult]:
    if not isinstance(entries, list):
        raise ValueError("'per_class' is no list")
    results = []
    for entry in entries:
        try:
            result = ClassResult(*(entry[key] for key in ("label", "name", "total", "correct")))
        except (TypeError, KeyError) as error:
            raise ValueError(f"an entry of 'per_class' lacks {error}") from error
        numbers = (result.label, result.total, result.correct)
        if any(type(n) is not int for n in numbers) or not 0 <= result.correct <= result.total:
            raise ValueError(f"an entry of 'per_class' is impossible: {entry!r:.200}")
        known = result.name is not None
        results.append(
            result._replace(name=str(result.name) if known else class_name(result.label))
        )
    return results


def class_name(label: int) -> str:
    """What a class is called whose name is not recorded."""
    return f"class {label}"


def weakest(results: Iterable[ClassResult], count: int | None) -> list[ClassResult]:
    """The `count` classes of lowest accuracy (None: all), in the order of their labels."""
    results = list(results)
    if count is not None and len(results) > count:
        tested = sorted((r for r in results if r.total), key=lambda r: (r.accuracy, r.label))
        results = tested[:count]
    return sorted(results, key=lambda result: result.label)
