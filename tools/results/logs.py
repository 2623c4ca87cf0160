"""Reads the result of a run out of its log, whatever state the log is in.

A result block is what the evaluator prints:

    => result
    * total: 1,234
    * correct: 1,000
    * accuracy: 81.0%
    * error: 19.0%
    * macro_f1: 80.2%

It counts when its values stand once each and in this order, agree with each other, and stand apart
from the lines of any other block: two processes that write into one log can otherwise leave a block
with values of both. Accuracy and error are then taken from the two counts, which hold all digits;
macro_f1 has only the printed one.

Other code prints less (no macro_f1, no counts) or more (`* ece: 3.0%`, which becomes a metric). A
block needs the accuracy, and a value that it lacks may stand nowhere else in the log: otherwise it
was cut off. A line that repeats the result, `=> result * total: 1,234 * ...`, only ends the block.
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from run.exact import exact_metrics

_FIELDS = ("total", "correct", "accuracy", "error", "macro_f1")
_COUNT = re.compile(r"\* (total|correct): ([0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,18})")
_PERCENT = re.compile(r"\* (accuracy|error|macro_f1): ([0-9]{1,3}\.[0-9]{1,18})%")
_STRAY = re.compile(r"=> result|\* (total|correct|accuracy|error|macro_f1):")
_FURTHER = re.compile(r"\* ([A-Za-z][A-Za-z0-9_-]{0,30}): (-?[0-9]{1,9}\.[0-9]{1,18})%")
_REPEATED = "=> result *"
_EPOCH = re.compile(r"epoch \[([0-9]+)/([0-9]+)\]")
_FINISHED = re.compile(r"Finish(?:ed)? training")
_SPLIT = re.compile(r"(?:Do evaluation|Evaluate) on (?:the )?\*?(val|test)\b")
_LONGEST_LINE = 1 << 16  # bytes
_LONGEST_BLOCK = 40  # lines, those of progress bars and warnings in between included
_TAIL = 1 << 12  # bytes at the end of a log that are read first, then eight times as many
_MOST_IGNORED = 5
_MOST_FURTHER = 20


@dataclass(frozen=True)
class LogResult:
    """`metrics` in percent by name; without any, `reason` says why.

    `decimals`: how many the accuracy was printed with, where there are no counts to make it exact.
    `state` is complete, unfinished, or unreadable: there is a result, which cannot be trusted.
    `ignored` says for the last few blocks that were not believed why not.
    """

    metrics: dict[str, float]
    state: str = "complete"
    reason: str | None = None
    ignored: tuple[str, ...] = ()
    decimals: int | None = None


def read_log(path: Path, test_log: bool = False) -> LogResult:
    """The last sound result block of one log file; no size and no content is an error.

    After epoch lines a block counts only behind the line that ends training: what comes earlier is
    an evaluation on the way, and what training goes on after is not its result. With `test_log` the
    file is taken as an evaluation only: every block counts. Blocks measured on validation images
    never count. Of a long log only the end is read, as far back as the answer needs it. Raises
    OSError when it cannot be read.
    """
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        length = _TAIL
        while length < size:
            file.seek(size - length)
            reader = _Reader(test_log, anchored=False)
            if reader.read(file).decided:
                return reader.close()
            length *= 8
        file.seek(0)
        return _Reader(test_log).read(file).close()


def _lines(file: BinaryIO, inside: bool) -> Iterator[str]:
    """Stripped lines, the first one left out if the file stands `inside` of it. Of a line rewritten
    by a progress bar only the last state, of an endless one only the start.
    """
    while chunk := file.readline(_LONGEST_LINE):
        if not inside:
            yield chunk.decode("utf-8", errors="replace").strip().rpartition("\r")[2].strip()
        inside = not chunk.endswith(b"\n")


def _says_something(line: str) -> bool:
    """Quickly sorts out the lines that no pattern can match: nearly all."""
    return (
        "* " in line or "=> " in line or "epoch [" in line or "Finish" in line or "valuat" in line
    )


def _number(line: str) -> tuple[str, str] | None:
    """(name, digits) when the line states one value of a result block."""
    match = _COUNT.fullmatch(line) or _PERCENT.fullmatch(line)
    return (match[1], match[2].replace(",", "")) if match else None


def _expected(names: Iterable[str]) -> tuple[str, ...]:
    """What may come behind the values that a block has; the first is what should."""
    *_, last = ("", *names)
    if not last:
        return "total", "accuracy"
    return _FIELDS[_FIELDS.index(last) + 1 :][: 2 if last == "accuracy" else 1]


def _decimals(percent: str) -> int:
    return len(percent.partition(".")[2])


def _block_metrics(block: dict[str, str]) -> dict[str, float]:
    """Values of a block; percentages may be off by half of their last printed digit."""
    counts = (int(block[name]) if name in block else None for name in _FIELDS[:2])
    percents = (float(block[name]) if name in block else None for name in _FIELDS[2:])
    decimals = min(_decimals(block[name]) for name in ("accuracy", "error") if name in block)
    return exact_metrics(*counts, *percents, tolerance=0.5 * 10**-decimals + 1e-9)


@dataclass
class _Reader:
    """Follows the lines of one log.

    Not `anchored` is one that starts in the middle of a file: before a line that begins or ends
    something, it is not known what the lines belong to.
    """

    test_log: bool
    anchored: bool = True
    block: dict[str, str] | None = None  # values so far of the block being read
    further: dict[str, float] = field(default_factory=dict)  # its other metrics
    age: int = 0  # lines since the block began
    last: int = 0  # the age at its last line so far
    mixed: bool = False  # the block began inside of another
    closed: bool = False  # a sound block just ended: none of its lines may come again
    split: str | None = None  # what is being measured on, where the log says so
    metrics: dict[str, float] = field(default_factory=dict)
    stated: dict[str, str] = field(default_factory=dict)  # the block that `metrics` are from
    seen: set[str] = field(default_factory=set)  # values that any line states
    epoch: str | None = None  # last epoch seen, while training has not ended
    empty: bool = True
    torn: bool = False  # the line fed last is a damaged one: the file may end within it
    distrusted: bool = False  # the newest result is not to be believed
    ignored: deque[str] = field(default_factory=lambda: deque(maxlen=_MOST_IGNORED))

    @property
    def decided(self) -> bool:
        """Whether what stands before the first line fed cannot change the answer."""
        whole = bool(self.metrics) and len(self.stated) == len(_FIELDS)
        return self.anchored and (whole or self.epoch is not None)

    def read(self, file: BinaryIO) -> "_Reader":
        for line in _lines(file, inside=not self.anchored):
            self.feed(line)
        return self

    def feed(self, line: str) -> None:
        self.empty, self.torn = self.empty and not line, False
        self.age += 1
        if self.block is not None and self.age > _LONGEST_BLOCK:
            self._end()
        if _says_something(line):
            self._follow(line)

    def _follow(self, line: str) -> None:
        if line == "=> result":
            self._begin()
        elif match := _EPOCH.match(line):
            self._end()
            self._anchor()
            if not self.test_log:
                self.epoch, self.metrics = f"{match[1]} of {match[2]}", {}
        elif _FINISHED.match(line):
            self._end()
            self._anchor()
            self.epoch = None
        elif match := _SPLIT.match(line):
            self._end()
            self.closed, self.split = False, match[1]
            self.anchored = self.anchored or self.test_log
        elif line.startswith(_REPEATED):
            self._end()
        elif _STRAY.search(line):
            self._value(line)
        elif match := _FURTHER.fullmatch(line):
            self._add(match[1].lower(), float(match[2]))

    def close(self) -> LogResult:
        self._end()
        if self.metrics and (lacking := self._lacking(self.stated)):  # the log states it elsewhere
            self.ignored.append(f"cut off before '{lacking}'")
            self.metrics = {}
        ignored = tuple(self.ignored)
        if self.metrics:
            rounded = None if "total" in self.stated else _decimals(self.stated["accuracy"])
            return LogResult(self.metrics, ignored=ignored, decimals=rounded)
        return LogResult({}, *self._failure(), ignored)

    def _anchor(self) -> None:
        self.closed, self.distrusted, self.split, self.anchored = False, False, None, True

    def _begin(self) -> None:
        self.mixed = self.block is not None and "accuracy" not in self.block
        self._end()
        self.block, self.further, self.age, self.last, self.closed = {}, {}, 0, 0, False

    def _value(self, line: str) -> None:
        """A line with a value of a block, or what two writers have left of one."""
        self.seen.update(filter(None, _STRAY.findall(line)))
        if self.block is None:
            if self.closed:
                self._ignore("lines of two results are mixed")
                self.metrics = {}
            return
        number, due = _number(line), _expected(self.block)
        if not due:
            self._ignore("lines of two results are mixed")
        elif number is None:
            self._ignore(f"a damaged line where '{due[0]}' should be")
            self.torn = True
        elif number[0] not in due[: 2 if self.block or self._adjacent() else 1]:
            self._ignore(f"'{number[0]}' where '{due[0]}' should be")
        else:
            self.block[number[0]], self.last = number[1], self.age

    def _add(self, name: str, value: float) -> None:
        """Another metric, where its line is one of the block's."""
        if self.block is None or not self._adjacent() or len(self.further) == _MOST_FURTHER:
            return
        self.further.setdefault(name, value)
        self.last = self.age

    def _adjacent(self) -> bool:
        return self.age == self.last + 1

    def _lacking(self, block: dict[str, str]) -> str | None:
        """The first value that the block does not have, though the log states it somewhere."""
        return next((name for name in _FIELDS if name in self.seen and name not in block), None)

    def _end(self) -> None:
        """The block that is being read, if any, has no more lines."""
        block, self.block = self.block, None
        if block is None:
            return
        lacking = self._lacking(block) if "accuracy" in block else _expected(block)[0]
        if lacking:
            self.ignored.append(f"cut off before '{lacking}'")
        else:
            self._complete(block)

    def _complete(self, block: dict[str, str]) -> None:
        try:
            metrics = _block_metrics(block)
        except ValueError as error:
            self._ignore(str(error))
            return
        if self.mixed:
            self._ignore("lines of two results are mixed")
        elif self.split == "val":
            self.ignored.append("it was measured on the validation images")
        else:
            self.closed, self.distrusted = True, False
            if self.epoch is None and self.anchored:
                self.metrics, self.stated = self.further | metrics, block

    def _ignore(self, why: str) -> None:
        self.block, self.closed, self.distrusted = None, False, True
        self.ignored.append(why)

    def _failure(self) -> tuple[str, str]:
        """(state, reason) of a log without a result."""
        if self.empty:
            return "unfinished", "the log is empty"
        if self.epoch:
            return "unfinished", f"training did not finish, last seen in epoch {self.epoch}"
        if self.ignored:
            state = "unreadable" if self.distrusted and not self.torn else "unfinished"
            return state, f"no usable result block: {self.ignored[-1]}"
        return "unfinished", "no result block in the log"
