"""Outlines of the ten shapes: polygons in a unit frame, x right, y down, about [-1, 1]."""

from __future__ import annotations

import numpy as np

Polygon = np.ndarray  # (P, 2) float


def _arc(radius: float, start: float, stop: float, n: int = 48) -> Polygon:
    """Points on a circle around the origin, angles in degrees."""
    angle = np.deg2rad(np.linspace(start, stop, n))
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _star(points: int = 5, inner: float = 0.42) -> Polygon:
    angle = np.deg2rad(-90 + 180 / points * np.arange(2 * points))
    radius = np.where(np.arange(2 * points) % 2 == 0, 1.0, inner)
    return radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _heart() -> Polygon:
    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x, -(y + 2.5)], axis=1) / 16.5


def _crescent() -> Polygon:
    """A disc with a second disc bitten out of its right side: the horns are where they meet."""
    horn, shift = 55.0, 0.45
    tip = _arc(1.0, horn, horn, 1)[0]
    bite = tip - np.array([shift, 0.0])
    reach = np.rad2deg(np.arctan2(bite[1], bite[0]))
    inner = _arc(float(np.hypot(*bite)), -reach, -(360 - reach)) + np.array([shift, 0.0])
    outer = _arc(1.0, horn, 360 - horn)
    return np.concatenate([outer, inner]) + np.array([0.2, 0.0])


def _square(half: float = 0.8) -> Polygon:
    return half * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=float)


def _cross(arm: float = 0.3) -> Polygon:
    quarter = np.array([[arm, -arm], [1, -arm], [1, arm]])
    turns = [np.linalg.matrix_power(np.array([[0, -1], [1, 0]]), k) for k in range(4)]
    return np.concatenate([quarter @ turn.T for turn in turns])


def _arrow() -> Polygon:
    return np.array(
        [[-1, -0.22], [0.1, -0.22], [0.1, -0.75], [1, 0], [0.1, 0.75], [0.1, 0.22], [-1, 0.22]]
    )


# Every shape is an outline and a hole (or None). Only the ring has one.
OUTLINES: dict[str, tuple[Polygon, Polygon | None]] = {
    "circle": (_arc(0.9, 0, 360), None),
    "square": (_square(), None),
    "triangle": (np.array([[0.0, -0.95], [0.95, 0.75], [-0.95, 0.75]]), None),
    "star": (_star(), None),
    "cross": (_cross(), None),
    "ring": (_arc(0.95, 0, 360), _arc(0.52, 0, 360)),
    "heart": (_heart(), None),
    "arrow": (_arrow(), None),
    "crescent": (_crescent(), None),
    "diamond": (np.array([[0.0, -1.05], [0.68, 0.0], [0.0, 1.05], [-0.68, 0.0]]), None),
}

# Largest turn either way, in degrees. A square turned far is a diamond, and a cross is an X.
MAX_TURN = dict.fromkeys(OUTLINES, 20.0) | {"square": 12.0, "diamond": 10.0, "arrow": 180.0}
