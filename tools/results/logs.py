"""Reads the result of a run out of its log, whatever state the log is in.

A result block is what the evaluator prints:

    => result
    * total: 1,234
    * correct: 1,000
    * accuracy: 81.0%
    * error: 19.0%
    * macro_f1: 80.2%

It counts when all five values are there, once each and in this order, and agree with each other.
Accuracy and error are then taken from the two counts, which hold all digits; macro_f1 has only the
printed one.
"""

import math
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

METRICS = ("accuracy", "error", "macro_f1")

_FIELDS = ("total", "correct", "accuracy", "error", "macro_f1")
_COUNT = re.compile(r"\* (total|correct): ([0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,18})")
_PERCENT = re.compile(r"\* (accuracy|error|macro_f1): ([0-9]{1,3}\.[0-9]{1,18})%")
_EPOCH = re.compile(r"epoch \[([0-9]+)/([0-9]+)\]")
_FINISHED = re.compile(r"Finish(?:ed)? training")
_LONGEST_LINE = 1 << 16  # bytes
_MOST_IGNORED = 5


@dataclass(frozen=True)
class LogResult:
    """`metrics` in percent by name, or None, and then `unfinished` says why.

    `ignored` says for the last few blocks that were not believed why not.
    """

    metrics: dict[str, float] | None
    unfinished: str | None
    ignored: tuple[str, ...] = ()


def exact_metrics(
    total: int, correct: int, accuracy: float, error: float, macro_f1: float, tolerance: float
) -> dict[str, float]:
    """Percentages with all digits from the counts; `tolerance` is in percentage points.

    Raises ValueError when the values contradict each other.
    """
    if not 0 <= correct <= total or total == 0:
        raise ValueError(f"{correct:,} correct of {total:,} is impossible")
    metrics = {
        "accuracy": 100 * correct / total,
        "error": 100 * (total - correct) / total,
        "macro_f1": macro_f1,
    }
    for name, stated in (("accuracy", accuracy), ("error", error)):
        if not math.isclose(metrics[name], stated, rel_tol=0, abs_tol=tolerance):
            counts = f"{correct:,} correct of {total:,}"
            raise ValueError(f"{name} {stated}% does not fit {counts} ({metrics[name]:.4f}%)")
    if not 0 <= macro_f1 <= 100 + tolerance:
        raise ValueError(f"macro_f1 {macro_f1}% is not a percentage")
    return metrics


def read_log(path: Path, test_log: bool = False) -> LogResult:
    """The last sound result block of one log file, streamed: no size and no content is an error.

    After epoch lines a block counts only behind the line that ends training: what comes earlier is
    an evaluation on the way, and what training goes on after is not its result. With `test_log` the
    file is taken as an evaluation only: every block counts. Raises OSError when it cannot be read.
    """
    reader = _Reader(test_log)
    for line in _lines(path):
        reader.feed(line)
    return reader.close()


def _lines(path: Path) -> Iterator[str]:
    """Stripped lines. Of a line rewritten by a progress bar only the last state, of an endless one
    only the start.
    """
    with open(path, "rb") as file:
        inside = False
        while chunk := file.readline(_LONGEST_LINE):
            if not inside:
                yield chunk.decode("utf-8", errors="replace").strip().rpartition("\r")[2].strip()
            inside = not chunk.endswith(b"\n")


def _number(line: str) -> tuple[str, str] | None:
    """(name, digits) when the line states one value of a result block."""
    match = _COUNT.fullmatch(line) or _PERCENT.fullmatch(line)
    return (match[1], match[2].replace(",", "")) if match else None


def _block_metrics(block: dict[str, str]) -> dict[str, float]:
    """Values of a complete block; percentages may be off by half of their last printed digit."""
    decimals = min(len(block[name].partition(".")[2]) for name in ("accuracy", "error"))
    return exact_metrics(
        int(block["total"]),
        int(block["correct"]),
        *(float(block[name]) for name in METRICS),
        tolerance=0.5 * 10**-decimals + 1e-9,
    )


@dataclass
class _Reader:
    """Follows the lines of one log."""

    test_log: bool
    block: dict[str, str] | None = None  # values so far of the block being read
    metrics: dict[str, float] | None = None
    epoch: str | None = None  # last epoch seen, while training has not ended
    empty: bool = True
    ignored: deque[str] = field(default_factory=lambda: deque(maxlen=_MOST_IGNORED))

    def feed(self, line: str) -> None:
        self.empty = self.empty and not line
        if line == "=> result":
            self._break_off()
            self.block = {}
        elif match := _EPOCH.match(line):
            self._break_off()
            if not self.test_log:
                self.epoch, self.metrics = f"{match[1]} of {match[2]}", None
        elif _FINISHED.match(line):
            self._break_off()
            self.epoch = None
        elif self.block is not None and (number := _number(line)):
            self._add(*number)

    def close(self) -> LogResult:
        self._break_off()
        reason = None if self.metrics else self._reason()
        return LogResult(self.metrics, reason, tuple(self.ignored))

    def _add(self, name: str, digits: str) -> None:
        expected = _FIELDS[len(self.block)]
        if name != expected:
            self._ignore(f"'{name}' where '{expected}' should be")
            return
        self.block[name] = digits
        if len(self.block) == len(_FIELDS):
            self._complete()

    def _complete(self) -> None:
        try:
            metrics = _block_metrics(self.block)
        except ValueError as error:
            self._ignore(str(error))
            return
        self.block = None
        if self.epoch is None:
            self.metrics = metrics

    def _break_off(self) -> None:
        if self.block is not None:
            self._ignore(f"cut off before '{_FIELDS[len(self.block)]}'")

    def _ignore(self, why: str) -> None:
        self.block = None
        self.ignored.append(why)

    def _reason(self) -> str:
        if self.empty:
            return "the log is empty"
        if self.epoch:
            return f"training did not finish, last seen in epoch {self.epoch}"
        if self.ignored:
            return f"no usable result block: {self.ignored[-1]}"
        return "no result block in the log"
