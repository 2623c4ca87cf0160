"""Read a run's results.json, and check that its numbers agree with each other."""

import json
import math
import os
from pathlib import Path
from typing import Any, NoReturn

METRICS = ("accuracy", "error", "macro_f1")
LARGEST = 16 << 20  # bytes; with 20,000 classes it is some 3 MiB
_FURTHER = ("perclass_accuracy",)  # percentages that some runs have besides


def read_record(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, float]]:
    """(the whole record, its metrics in percent by name); no metrics: the run is not complete.

    Keys that are not known here are kept and disturb nothing. Raises OSError when the file cannot
    be read, ValueError when it is damaged, lacks something, or contradicts itself.
    """
    record = read_object(path)
    try:
        return record, _metrics(record)
    except OverflowError as error:
        raise ValueError(f"it is damaged: {error}") from error


def read_object(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The object in a JSON file of a run; errors as of `read_record`."""
    with open(path, "rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ValueError("it is larger than any results file")
    try:
        record = json.loads(content, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError(f"it is damaged: {error}") from error
    if not isinstance(record, dict):
        raise ValueError("it does not hold an object")
    return record


def replacing(identity: dict[str, Any], trainer: str) -> list[str] | None:
    """Names of the plugins that took the place of our trainer; None where that is not known."""
    plugins = identity.get("plugins")
    if not isinstance(plugins, list):
        return None
    own = [p for p in plugins if isinstance(p, dict) and trainer in (p.get("replaces") or ())]
    return sorted(Path(str(plugin.get("file"))).name for plugin in own)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"it holds {constant}, which is no number")


def _metrics(record: dict[str, Any]) -> dict[str, float]:
    if record.get("complete") is False:
        return {}
    if record.get("complete") is not True:
        raise ValueError("it does not say 'complete': true")
    total = _number(record, "total", int)
    # null: an evaluator of a plugin, whose accuracy is no share of all images
    correct = None if record.get("correct", 0) is None else _number(record, "correct", int)
    accuracy = _number(record, "accuracy", float, int)
    error, macro_f1 = (
        _number(record, name, float, int) if name in record else None
        for name in ("error_rate", "macro_f1")
    )
    metrics = exact_metrics(total, correct, accuracy, error, macro_f1, tolerance=0.005)
    for name in _FURTHER:
        if name in record and 0 <= (value := _number(record, name, float, int)) <= 100.005:
            metrics[name] = float(value)
    return metrics


def _number(record: dict[str, Any], name: str, *kinds: type) -> Any:
    value: Any = record.get(name)
    if type(value) not in kinds or not math.isfinite(value):  # type(): True is no number
        raise ValueError(f"it has no usable '{name}'")
    return value


def exact_metrics(
    total: int | None,
    correct: int | None,
    accuracy: float,
    error: float | None,
    macro_f1: float | None,
    tolerance: float,
) -> dict[str, float]:
    """Percentages with all digits from the counts; `tolerance` is in percentage points.

    Without counts they are as stated. `error` and `macro_f1` may be unknown. Raises ValueError when
    the values contradict each other.
    """
    if total is None or correct is None:
        metrics, reason = _percentages(accuracy), f"an accuracy of {accuracy}%"
        tolerance *= 2  # both are rounded
    else:
        if not 0 <= correct <= total or total == 0:
            raise ValueError(f"{correct:,} correct of {total:,} is impossible")
        metrics = {"accuracy": 100 * correct / total, "error": 100 * (total - correct) / total}
        reason = f"{correct:,} correct of {total:,}"
    for name, stated in (("accuracy", accuracy), ("error", error)):
        if stated is not None and not abs(metrics[name] - stated) <= tolerance:
            raise ValueError(f"{name} {stated}% does not fit {reason} ({metrics[name]:.4f}%)")
    if macro_f1 is not None:
        metrics["macro_f1"] = float(_percentage("macro_f1", macro_f1, tolerance))
    return metrics


def _percentages(accuracy: float) -> dict[str, float]:
    accuracy = float(_percentage("accuracy", accuracy))
    return {"accuracy": accuracy, "error": 100 - accuracy}


def _percentage(name: str, value: float, tolerance: float = 0.0) -> float:
    if not 0 <= value <= 100 + tolerance:
        raise ValueError(f"{name} {value}% is not a percentage")
    return value
