"""Draws one image of a class '<color> <shape>'. Pure functions of a numpy generator.

An image is composed in float RGB in [0, 1], from the back to the front: background, shape, and,
in the shifted style, marks on it and around it and colored light over everything.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

# Outlines: polygons in a unit frame, x right, y down, about [-1, 1].

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

# Colors and style

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (215, 30, 35),
    "orange": (250, 130, 20),
    "yellow": (250, 225, 45),
    "green": (40, 160, 55),
    "cyan": (50, 205, 215),
    "blue": (35, 70, 205),
    "purple": (125, 45, 180),
    "pink": (250, 140, 195),
    "brown": (115, 70, 35),
    "white": (248, 248, 248),
}
SHAPES: tuple[str, ...] = tuple(OUTLINES)
STYLES = ("plain", "shifted")
SIZE = 64  # pixels, of an image on disk
SUPERSAMPLE = 4  # masks are drawn this much larger and averaged down: smooth edges
MIN_CONTRAST = 0.33  # RGB distance between shape and background below which a shape is hard to see

# The shifted style at strength 1.
LIGHT = np.array([1.0, 0.5, 0.1])  # of a low sun, as factors of red, green, blue
STRIPE_PERIOD, STRIPE_OPACITY = 0.16, 0.15  # the period in widths of the image
SPECKS = 6


@dataclass(frozen=True)
class Pose:
    """Where the shape lies: center and half extent as fractions of the width, turn in degrees."""

    x: float
    y: float
    scale: float
    turn: float


def class_name(color: str, shape: str) -> str:
    return f"{color} {shape}"


def all_class_names() -> list[str]:
    """The 100 combinations, color by color."""
    return [class_name(color, shape) for color in COLORS for shape in SHAPES]


def split_name(name: str) -> tuple[str, str]:
    """'red star' -> ('red', 'star'). ValueError for anything that cannot be drawn."""
    color, _, shape = name.partition(" ")
    if color not in COLORS or shape not in SHAPES:
        raise ValueError(
            f"cannot draw {name!r}: a class is '<color> <shape>' with a color of "
            f"{', '.join(COLORS)} and a shape of {', '.join(SHAPES)}"
        )
    return color, shape


def draw(
    name: str,
    rng: np.random.Generator,
    style: str = "plain",
    strength: float = 0.0,
    size: int = SIZE,
) -> Image.Image:
    """A square RGB image of class `name`, `size` pixels wide.

    `strength` in [0, 1] is how far the 'shifted' style goes; 'plain' takes only 0. All
    randomness comes from `rng`. ValueError for a wrong name, style or strength.
    """
    color, shape = split_name(name)
    if style not in STYLES:
        raise ValueError(f"style is {style!r}; allowed: {', '.join(STYLES)}")
    if not 0 <= strength <= 1 or (style == "plain" and strength):
        raise ValueError(f"strength is {strength} with style {style!r}; allowed: 0 to 1, plain: 0")
    pose = _random_pose(shape, rng)
    paint = _jitter_color(COLORS[color], rng)
    canvas = _background(paint, rng, size)
    mask = shape_mask(shape, pose, size)
    canvas = _over(canvas, paint, mask)
    if style == "shifted":
        canvas = _shift(canvas, mask, pose, strength, rng)
    canvas = canvas * rng.uniform(0.85, 1.1) + rng.normal(0, 0.01, canvas.shape)
    return Image.fromarray((canvas.clip(0, 1) * 255).round().astype(np.uint8))


def draw_class(
    name: str, count: int, seed: int, style: str = "plain", strength: float = 0.0
) -> np.ndarray:
    """`count` images of one class, (count, SIZE, SIZE, 3) uint8.

    The name is part of the seed: no two classes are drawn from the same numbers.
    """
    rng = np.random.default_rng([seed, *name.encode()])
    return np.stack([np.asarray(draw(name, rng, style, strength)) for _ in range(count)])


def shape_mask(shape: str, pose: Pose, size: int) -> np.ndarray:
    """Coverage of every pixel by the shape, (size, size) in [0, 1]."""
    large = size * SUPERSAMPLE
    mask = Image.new("L", (large, large), 0)
    pen = ImageDraw.Draw(mask)
    outline, hole = OUTLINES[shape]
    pen.polygon(_place(outline, pose, large), fill=255)
    if hole is not None:
        pen.polygon(_place(hole, pose, large), fill=0)
    return np.asarray(mask.reduce(SUPERSAMPLE), dtype=np.float64) / 255


def _place(polygon: np.ndarray, pose: Pose, large: int) -> list[tuple[float, float]]:
    turn = np.deg2rad(pose.turn)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    points = (polygon @ rotation.T * pose.scale + np.array([pose.x, pose.y])) * large
    return [(float(x), float(y)) for x, y in points]


def _random_pose(shape: str, rng: np.random.Generator) -> Pose:
    scale = rng.uniform(0.26, 0.42)
    margin = scale + 0.02
    x, y = rng.uniform(margin, 1 - margin, 2)
    return Pose(float(x), float(y), float(scale), float(rng.uniform(-1, 1) * MAX_TURN[shape]))


def _jitter_color(color: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    return (np.array(color) / 255 + rng.normal(0, 0.03, 3)).clip(0, 1)


def _over(canvas: np.ndarray, paint: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Paint laid over the canvas where the mask is 1."""
    return canvas + mask[..., None] * (paint - canvas)


def _background(paint: np.ndarray, rng: np.random.Generator, size: int) -> np.ndarray:
    """A dull color that stands off from the shape's, flat or with a soft texture."""
    while True:
        gray = rng.uniform(0.08, 0.85)
        color = (gray + rng.normal(0, 0.05, 3)).clip(0, 1)
        if np.linalg.norm(color - paint) > MIN_CONTRAST:
            break
    coarse = rng.normal(0, 1, (4, 4)).astype(np.float32)
    texture = np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))
    return color + rng.choice([0.0, 0.03, 0.06]) * texture[..., None]


def _shift(
    canvas: np.ndarray, mask: np.ndarray, pose: Pose, strength: float, rng: np.random.Generator
) -> np.ndarray:
    """Faint stripes over the shape, specks around it, and colored light over everything."""
    size = len(mask)
    y, x = np.mgrid[:size, :size] / size
    stripes = np.sin(2 * np.pi * (x + y - pose.x - pose.y) / STRIPE_PERIOD) > 0.2
    canvas = _over(canvas, np.zeros(3), mask * stripes * STRIPE_OPACITY * strength)
    for _ in range(round(SPECKS * strength)):
        cx, cy, radius = *rng.uniform(0, 1, 2), rng.uniform(0.015, 0.035)
        spot = ((x - cx) ** 2 + (y - cy) ** 2 < radius**2) * (1 - mask)
        canvas = _over(canvas, rng.uniform(0, 1, 3), spot)
    return canvas * (1 - strength * (1 - LIGHT))
