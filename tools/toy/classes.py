"""Which of the 100 combinations are in the demo data set, and in which half.

All 30 are held out of the small CLIP's pre-training: it has seen their colours and their shapes,
never together. Neither attribute alone tells a half's classes apart: each half has 7 colours
and 7 shapes, and a colour has up to three shapes and a shape up to three colours.
"""

from __future__ import annotations

from tools.toy.drawing import all_class_names

BASE: tuple[str, ...] = (
    "brown arrow", "green circle", "green diamond", "orange cross", "orange diamond",
    "pink circle", "pink cross", "pink diamond", "purple square", "white cross",
    "white heart", "white star", "yellow arrow", "yellow circle", "yellow star",
)  # fmt: skip
NEW: tuple[str, ...] = (
    "blue heart", "blue square", "blue triangle", "brown ring", "brown star",
    "cyan crescent", "cyan heart", "cyan ring", "green triangle", "orange crescent",
    "purple arrow", "purple crescent", "red ring", "red square", "red triangle",
)  # fmt: skip

# Label c is CLASSES[c]: the first half of the sorted labels is what base-to-new calls base.
CLASSES: tuple[str, ...] = BASE + NEW
SEEN: tuple[str, ...] = tuple(name for name in all_class_names() if name not in CLASSES)
