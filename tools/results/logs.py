"""Read the result of a run from its log: the last complete result block, or why there is none.

The evaluator prints a block:

    => result
    * total: 1,234
    * correct: 1,000
    * accuracy: 81.0%
    * error: 19.0%
    * macro_f1: 80.2%

Other code prints less (no macro_f1, no counts) or more (`* ece: 3.0%`, which becomes a metric); the
accuracy is required. A block counts if its values stand in this order and agree with each other. A
value that it lacks may stand nowhere else in the log, and none may follow behind it: two processes
that write into one log can otherwise leave a block with values of both.
"""

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from run.reader import exact_metrics

_FIELDS = ("total", "correct", "accuracy", "error", "macro_f1")
_COUNT = re.compile(r"\* (total|correct): ([0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,18})")
_PERCENT = re.compile(r"\* (accuracy|error|macro_f1): ([0-9]{1,3}\.[0-9]{1,18})%")
_ANY_VALUE = re.compile(r"=> result|\* (total|correct|accuracy|error|macro_f1):")
_FURTHER = re.compile(r"\* ([A-Za-z][A-Za-z0-9_-]{0,30}): (-?[0-9]{1,9}\.[0-9]{1,18})%")
_EPOCH = re.compile(r"epoch \[([0-9]+)/([0-9]+)\]")
_FINISHED = re.compile(r"Finish(?:ed)? training")
_SPLIT = re.compile(r"(?:Do evaluation|Evaluate) on (?:the )?\*?(val|test)\b")
_STARTS = ("* ", "=> ", "epoch [", "Finish", "valuat")  # in every line that means something
_LONGEST_LINE = 1 << 16  # bytes
_LONGEST_GAP = 40  # lines of others between two of a block
_MOST_FURTHER = 20
_MIXED = "lines of two results are mixed"


@dataclass(frozen=True)
class LogResult:
    """`metrics` in percent by name; without any, `reason` says why.

    `decimals`: how many the accuracy was printed with, where there are no counts to make it exact.
    `state` is complete, unfinished, or unreadable: there is a result, which cannot be trusted.
    `ignored` says of the last few blocks that do not count why not.
    """

    metrics: dict[str, float]
    state: str = "complete"
    reason: str | None = None
    ignored: tuple[str, ...] = ()
    decimals: int | None = None


def read_log(path: Path, test_log: bool = False) -> LogResult:
    """Read one log file; no size and no content is an error.

    After epoch lines a block counts only behind the line that ends training; with `test_log` every
    block counts. Blocks on validation images never count. Raises OSError.
    """
    log = _Log(test_log)
    with open(path, "rb") as file:
        for line in _lines(file):
            log.feed(line)
    return log.result()


def _lines(file: BinaryIO) -> Iterator[str]:
    """Stripped lines; of one rewritten by a progress bar the last state, of an endless one the
    start."""
    inside = False
    while chunk := file.readline(_LONGEST_LINE):
        if not inside:
            yield chunk.decode("utf-8", errors="replace").strip().rpartition("\r")[2].strip()
        inside = not chunk.endswith(b"\n")


@dataclass
class _Block:
    """Values of a block as printed. `fault` says why it does not count, `last` is the number of its
    last line."""

    last: int
    fault: str | None = None
    values: dict[str, str] = field(default_factory=dict)
    further: dict[str, float] = field(default_factory=dict)

    @property
    def due(self) -> tuple[str, ...]:
        """Names of the values that may come next; the first one should."""
        if not self.values:
            return "total", "accuracy"
        *_, last = self.values
        return _FIELDS[_FIELDS.index(last) + 1 :][: 2 if last == "accuracy" else 1]

    def add(self, line: str, number: int) -> None:
        """Take a line with a value."""
        if self.fault not in (None, _MIXED):
            return
        match = _COUNT.fullmatch(line) or _PERCENT.fullmatch(line)
        if not self.due:
            self.fault = _MIXED
        elif not match:
            self.fault = f"a damaged line where '{self.due[0]}' should be"
        elif match[1] not in self.due or (
            match[1] == "accuracy" and not self.values and number > self.last + 1
        ):  # without counts an accuracy stands directly behind the header
            self.fault = f"'{match[1]}' where '{self.due[0]}' should be"
        else:
            self.values[match[1]] = match[2].replace(",", "")
        self.last = number

    def add_further(self, name: str, value: float, number: int) -> None:
        """Take another metric, if its line stands right behind the block's others."""
        if number == self.last + 1 and len(self.further) < _MOST_FURTHER:
            self.further.setdefault(name, value)
            self.last = number

    def lacks(self, seen: set[str]) -> str | None:
        """The first value that the block lacks and that the log has (`seen`), or must have."""
        if "accuracy" not in self.values:
            return self.due[0]
        return next((name for name in _FIELDS if name in seen and name not in self.values), None)

    @property
    def decimals(self) -> int:
        return len(self.values["accuracy"].partition(".")[2])

    def metrics(self) -> dict[str, float]:
        """Percentages; printed ones may be off by half of their last digit. Raises ValueError."""
        stated: dict[str, Any] = dict.fromkeys(_FIELDS)
        for name, text in self.values.items():
            stated[name] = float(text) if "." in text else int(text)
        printed = [self.values[name] for name in ("accuracy", "error") if name in self.values]
        decimals = min(len(text.partition(".")[2]) for text in printed)
        return self.further | exact_metrics(**stated, tolerance=0.5 * 10**-decimals + 1e-9)


@dataclass
class _Log:
    """What the lines so far say."""

    test_log: bool
    number: int = 0  # of lines
    empty: bool = True
    split: str | None = None  # val or test, where the log says which images are measured on
    epoch: str | None = None  # last epoch seen, while training has not ended
    block: _Block | None = None  # that is being read
    sound: _Block | None = None  # the last one that counts
    closed: bool = False  # a sound block just ended: no value may follow
    seen: set[str] = field(default_factory=set)  # names of all values in the log
    ignored: deque[str] = field(default_factory=lambda: deque(maxlen=5))
    distrusted: bool = False  # the newest result cannot be trusted

    def feed(self, line: str) -> None:
        self.number += 1
        self.empty = self.empty and not line
        if self.block and self.number - self.block.last > _LONGEST_GAP:
            self._end()
        if not any(start in line for start in _STARTS):
            return
        if line == "=> result":
            inside = self.block and not self.block.fault and "accuracy" not in self.block.values
            self._end()
            self.block, self.closed = _Block(self.number, _MIXED if inside else None), False
        elif match := _EPOCH.match(line):
            self._part()
            if not self.test_log:
                self.epoch, self.sound = f"{match[1]} of {match[2]}", None
        elif _FINISHED.match(line):
            self._part()
            self.epoch = None
        elif match := _SPLIT.match(line):
            self._end()
            self.closed, self.split = False, match[1]
        elif line.startswith("=> result *"):  # repeats the result in one line
            self._end()
        elif _ANY_VALUE.search(line):
            self._value(line)
        elif self.block and (match := _FURTHER.fullmatch(line)):
            self.block.add_further(match[1].lower(), float(match[2]), self.number)

    def _part(self) -> None:
        """Begin another part of the run."""
        self._end()
        self.closed, self.distrusted, self.split = False, False, None

    def _value(self, line: str) -> None:
        self.seen.update(filter(None, _ANY_VALUE.findall(line)))
        if self.block:
            self.block.add(line, self.number)
        elif self.closed:
            self._distrust(_MIXED)
            self.sound, self.closed = None, False

    def _distrust(self, why: str) -> None:
        self.ignored.append(why)
        self.distrusted = True

    def _end(self) -> None:
        """Judge the block that is being read, if any."""
        block, self.block = self.block, None
        if block is None:
            return
        if not block.fault and (lacking := block.lacks(self.seen)):
            self.ignored.append(f"cut off before '{lacking}'")
            return
        try:
            if not block.fault:
                block.metrics()
        except ValueError as error:
            block.fault = str(error)
        if block.fault:
            self._distrust(block.fault)
            if block.last == self.number and block.fault.startswith("a damaged line"):
                self.distrusted = False  # the log ends within the line
        elif self.split == "val":
            self.ignored.append("it was measured on the validation images")
        else:
            self.closed, self.distrusted = True, False
            self.sound = block if self.epoch is None else self.sound

    def result(self) -> LogResult:
        self._end()
        if self.sound and (lacking := self.sound.lacks(self.seen)):
            self.ignored.append(f"cut off before '{lacking}'")
            self.sound = None
        ignored = tuple(self.ignored)
        if self.sound is None:
            return LogResult({}, *self._failure(), ignored)
        decimals = None if "total" in self.sound.values else self.sound.decimals
        return LogResult(self.sound.metrics(), ignored=ignored, decimals=decimals)

    def _failure(self) -> tuple[str, str]:
        """(state, reason) of a log without a result."""
        if self.empty:
            return "unfinished", "the log is empty"
        if self.epoch:
            return "unfinished", f"training did not finish, last seen in epoch {self.epoch}"
        if self.ignored:
            state = "unreadable" if self.distrusted else "unfinished"
            return state, f"no usable result block: {self.ignored[-1]}"
        return "unfinished", "no result block in the log"
