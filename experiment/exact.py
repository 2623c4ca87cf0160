"""Metrics of a run with all digits, from counts that agree with what is stated."""

METRICS = ("accuracy", "error", "macro_f1")


def exact_metrics(
    total: int,
    correct: int,
    accuracy: float,
    error: float | None,
    macro_f1: float | None,
    tolerance: float,
) -> dict[str, float]:
    """Percentages with all digits from the counts; `tolerance` is in percentage points.

    `error` and `macro_f1` may be unknown. Raises ValueError when the values contradict each other.
    """
    if not 0 <= correct <= total or total == 0:
        raise ValueError(f"{correct:,} correct of {total:,} is impossible")
    metrics = {"accuracy": 100 * correct / total, "error": 100 * (total - correct) / total}
    for name, stated in (("accuracy", accuracy), ("error", error)):
        if stated is not None and not abs(metrics[name] - stated) <= tolerance:
            counts = f"{correct:,} correct of {total:,}"
            raise ValueError(f"{name} {stated}% does not fit {counts} ({metrics[name]:.4f}%)")
    if macro_f1 is not None:
        if not 0 <= macro_f1 <= 100 + tolerance:
            raise ValueError(f"macro_f1 {macro_f1}% is not a percentage")
        metrics["macro_f1"] = float(macro_f1)
    return metrics
