"""Means, spreads and harmonic means: pure functions of numbers in percent."""

import math
from collections.abc import Sequence


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean. Raises ValueError for no values."""
    if not values:
        raise ValueError("a mean needs at least one value")
    return math.fsum(values) / len(values)


def std(values: Sequence[float]) -> float:
    """Population standard deviation (divides by n, numpy's default), as the CoOp family reports."""
    centre = mean(values)
    return math.sqrt(math.fsum((value - centre) ** 2 for value in values) / len(values))


def ci95(values: Sequence[float]) -> float:
    """Half width of the 95% confidence interval of the mean, 1.96 * std / sqrt(n)."""
    return 1.96 * std(values) / math.sqrt(len(values))


def harmonic_mean(base: float, new: float) -> float:
    """HM = 2bn / (b + n); 0 when both are 0."""
    return 2 * base * new / (base + new) if base + new else 0.0
