"""A matplotlib figure as SVG: as a file of its own, or as a part of a page that it takes after.

The page's colours are CSS variables, so that figures follow its light and dark scheme: a figure is
drawn in the light scheme's colours, and for the page each is replaced by its variable.
"""

import hashlib
import io
import re
import warnings
from xml.etree import ElementTree

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure

# Light and dark: at least 4.5:1 (ink) and 3:1 (series) against the page; hues apart for the
# common kinds of colour blindness, and every series has a marker of its own besides.
INK = ("#1b1f24", "#e8eaed")
FAINT = ("#d5d9de", "#3a4048")
PAPER = ("#ffffff", "#15181c")
SERIES = (
    ("#0067a5", "#6cb8f0"),
    ("#c04000", "#ff9a5c"),
    ("#00795a", "#3fd0a4"),
    ("#9b2f7f", "#f09bd5"),
    ("#7d6200", "#e3c545"),
    ("#3d3a9e", "#a9a6ff"),
    ("#8a3324", "#e8a598"),
    ("#50565e", "#b4bac2"),
)
MARKERS = "osD^vPX*"
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",  # the same figure is the same text
    "text.parse_math": False,  # names of classes and data sets may hold dollars
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT[0],
    "axes.edgecolor": INK[0],
    "axes.facecolor": PAPER[0],
    "figure.facecolor": PAPER[0],
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK[0]),
    "legend.frameon": False,
}
_SVG = "http://www.w3.org/2000/svg"
_HREF = "{http://www.w3.org/1999/xlink}href"
_TAG = re.compile(r"<[^>]*>")
_DIGITS = re.compile(r"(\d+\.\d\d)\d+")

ElementTree.register_namespace("", _SVG)


def variables() -> list[tuple[str, str, str]]:
    """(name, light, dark) of every CSS variable that figures and page share."""
    series = [(f"--series-{i}", *pair) for i, pair in enumerate(SERIES)]
    return [("--ink", *INK), ("--faint", *FAINT), ("--paper", *PAPER), *series]


def style() -> rc_context:
    """The settings under which figures are drawn and saved."""
    return rc_context(STYLE)


def standalone(figure: Figure) -> str:
    """SVG for a file, in the colours for white paper. Call it within `style()`."""
    text = io.StringIO()
    with warnings.catch_warnings():
        # the width of a letter that matplotlib's font lacks is guessed; the reader's font has it
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    # places to a hundredth of a point; what stands between tags are the words of the figure
    return _TAG.sub(lambda tag: _DIGITS.sub(r"\1", tag[0]), text.getvalue())


def inline(figure: Figure, description: str) -> Markup:
    """SVG to put into a page, with `description` for those who do not see it."""
    drawn = standalone(figure)
    root = ElementTree.fromstring(drawn)
    _drop(root, f"{{{_SVG}}}metadata", f"{{{_SVG}}}style")
    prefix = f"f{hashlib.sha256(drawn.encode()).hexdigest()[:8]}"
    for element in root.iter():
        _adapt(element, prefix)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.set("role", "img")
    root.set("aria-label", description)
    text = ElementTree.tostring(root, encoding="unicode", short_empty_elements=True)
    return Markup(_themed(re.sub(r">\s+<", "><", text)))


def printable(text: object) -> str:
    """Text without what neither XML nor UTF-8 can hold, such as control characters."""
    clean = str(text).encode("utf-8", "replace").decode("utf-8")
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", clean)


def _drop(element: ElementTree.Element, *tags: str) -> None:
    for child in list(element):
        if child.tag in tags:
            element.remove(child)
        else:
            _drop(child, *tags)


def _adapt(element: ElementTree.Element, prefix: str) -> None:
    """Identifiers that are unique in the page, and none where nothing refers to them."""
    if element.tag == f"{{{_SVG}}}g":
        element.attrib.pop("id", None)
    elif "id" in element.attrib:
        element.set("id", prefix + element.get("id"))
    if "clip-path" in element.attrib:
        element.set("clip-path", element.get("clip-path").replace("url(#", f"url(#{prefix}"))
    if _HREF in element.attrib:
        element.set("href", f"#{prefix}{element.attrib.pop(_HREF)[1:]}")
    if "style" in element.attrib:
        element.set("style", re.sub(r"font-family: [^;]*;? ?", "", element.get("style")))


def _themed(text: str) -> str:
    names = {light: name for name, light, _ in variables()}
    pattern = r"(?<=: )(" + "|".join(names) + r")(?=[;\"])"
    return re.sub(pattern, lambda match: f"var({names[match[1]]})", text)
