"""Metrics of a run with all digits, from counts that agree with what is stated."""

METRICS = ("accuracy", "error", "macro_f1")


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
