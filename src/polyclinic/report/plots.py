"""The report's plots as inline SVG: pure functions from numbers to markup.

All take their data, then `ident` (unique on the page), `title` and `desc` (read out by screen
readers) by keyword. Colours are CSS classes and variables of the page's style sheet, so the same
markup is right in light, in dark and on paper.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from polyclinic.report.formats import MINUS

MARKERS = (
    "M-3,0a3,3 0 1 0 6,0a3,3 0 1 0 -6,0Z",  # circle
    "M-2.6,-2.6h5.2v5.2h-5.2Z",  # square
    "M0,-3.4L3.2,2.6H-3.2Z",  # triangle
    "M0,-3.8L3.6,0L0,3.8L-3.6,0Z",  # diamond
    "M0,3.4L3.2,-2.6H-3.2Z",  # triangle, point down
    "M-3.4,-1h2.4v-2.4h2v2.4h2.4v2h-2.4v2.4h-2v-2.4h-2.4Z",  # plus
    "M-3.4,0L3,-3.2V3.2Z",  # triangle, point left
    "M3.4,0L-3,-3.2V3.2Z",  # triangle, point right
    "M-3.6,-1.3h7.2v2.6h-7.2Z",  # bar
    "M-1.3,-3.6h2.6v7.2h-2.6Z",  # bar, upright
)
"""One shape per method, so that colour is never the only difference."""
SERIES = len(MARKERS)
"""Methods that can be told apart; the style sheet has as many colours, `m0`, `m1`, ..."""


TICK = 38  # px that a tick along x takes, with its label
CHARACTER = 7  # px that a character of a label takes, at most, in most fonts


@dataclass(frozen=True)
class Interval:
    """One row of an interval plot. `tone` is a CSS class; a hollow dot means "not shown"."""

    label: str
    value: float | None
    low: float | None
    high: float | None
    text: str
    tone: str
    hollow: bool = False


@dataclass(frozen=True)
class Line:
    """One method's course: `points` are (x, y); `series` picks colour and marker."""

    label: str
    series: int
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Bar:
    """One row of a bar chart: parts of a whole, or a single part, and its text."""

    label: str
    parts: tuple[tuple[float, str], ...]  # (length, CSS class)
    text: str


def intervals(
    rows: Sequence[Interval],
    *,
    ident: str,
    title: str,
    desc: str,
    axis: str,
    zero: bool,
    width: int = 440,
    label_width: int = 104,
    text_width: int = 140,
) -> Markup:
    """Values with intervals, one row each; a forest plot where `zero` draws the line of no gain."""
    values = [v for row in rows for v in (row.value, row.low, row.high) if v is not None]
    low, high = _range([*values, 0.0] if zero else values)
    left, right = label_width, width - text_width
    row_height, top = 24, 6
    bottom = top + row_height * len(rows)

    def x(value: float) -> float:
        return left + 6 + (right - left - 12) * (value - low) / (high - low)

    parts = []
    for tick in ticks(low, high, max(2, min(5, (right - left) // TICK))):
        at = x(tick)
        parts.append(_line("grid", at, top, at, bottom))
        parts.append(_text("tick", at, bottom + 14, number(tick, high - low), anchor="middle"))
    if zero:
        parts.append(_line("zero", x(0.0), top, x(0.0), bottom))
    for index, row in enumerate(rows):
        y = top + row_height * (index + 0.5)
        parts.append(
            _text(
                "label", left - 6, y + 4, _short(row.label, (left - 6) // CHARACTER), anchor="end"
            )
        )
        parts.append(_text("value", right + 8, y + 4, row.text))
        inner = Markup("<title>{}: {}</title>").format(row.label, row.text)
        if row.low is not None and row.high is not None:
            inner += _line("whisker", x(row.low), y, x(row.high), y)
        if row.value is not None:
            kind = "dot hollow" if row.hollow else "dot"
            inner += _tag("circle", {"class": kind, "cx": x(row.value), "cy": y, "r": 4.2})
        parts.append(Markup('<g class="{}">{}</g>').format(row.tone, inner))
    parts.append(_text("axis", (left + right) / 2, bottom + 30, axis, anchor="middle"))
    return _svg(parts, width, bottom + 36, ident, title, desc)


def curves(
    panels: Sequence[tuple[str, Sequence[Line]]],
    *,
    ident: str,
    title: str,
    desc: str,
    axis: str,
    width: int = 440,
    height: int = 184,
) -> Markup:
    """Lines over the same x, one panel beside the other with a shared y axis."""
    everything = [point for _, lines in panels for line in lines for point in line.points]
    low, high = _range([y for _, y in everything])
    along = [x for x, _ in everything]
    first, last = min(along), max(along)
    marked = _marked(first, last, whole=all(x % 1 == 0 for x in along))
    left, gap, top, bottom = 36, 14, 22, height - 34
    panel = (width - left - 8 - gap * (len(panels) - 1)) / len(panels)
    parts = []
    for index, (name, lines) in enumerate(panels):
        start = left + index * (panel + gap)

        def x(value: float, start: float = start) -> float:
            share = (value - first) / (last - first) if last > first else 0.5
            return start + 8 + (panel - 16) * share

        def y(value: float) -> float:
            return bottom - (bottom - top) * (value - low) / (high - low)

        parts.append(_text("panel", start, 12, name))
        for tick in ticks(low, high, 4):
            parts.append(_line("grid", start, y(tick), start + panel, y(tick)))
            if index == 0:
                label = number(tick, high - low)
                parts.append(_text("tick", left - 5, y(tick) + 3.5, label, anchor="end"))
        for place, label in marked:
            parts.append(_text("tick", x(place), bottom + 14, label, anchor="middle"))
        for line in reversed(lines):  # the first method is drawn last, on top
            places = [(x(a), y(b)) for a, b in line.points]
            path = "M" + "L".join(f"{_n(a)},{_n(b)}" for a, b in places)
            inner = Markup("<title>{}</title>").format(line.label)
            inner += _tag("path", {"class": "line", "d": path})
            for a, b in places:
                shape = MARKERS[line.series % SERIES]
                move = f"translate({_n(a)} {_n(b)})"
                inner += _tag("path", {"class": "mark", "d": shape, "transform": move})
            parts.append(Markup('<g class="m{}">{}</g>').format(line.series % SERIES, inner))
        parts.append(_text("axis", start + panel / 2, height - 4, axis, anchor="middle"))
    return _svg(parts, width, height, ident, title, desc)


def confusion(
    classes: Sequence[str],
    matrix: Sequence[Sequence[int]],
    *,
    ident: str,
    title: str,
    desc: str,
    width: int = 440,
) -> Markup:
    """Rows are the truth, columns the prediction; darkness is the share of the row."""
    size = len(classes)
    longest = min(18, max((len(name) for name in classes), default=1))
    left = 28 + 6.8 * longest
    cell = min(46.0, (width - left - 40) / max(size, 1))
    top = 30 + 4.8 * longest
    wide = left + cell * size + 3.6 * longest + 10
    parts = [_text("axis", left, 12, "predicted")]
    middle = top + cell * size / 2
    turned = {"transform": f"rotate(-90 10 {_n(middle)})"}
    parts.append(_text("axis", 10, middle, "truth", anchor="middle", extra=turned))
    for row, name in enumerate(classes):
        y = top + cell * (row + 0.5)
        parts.append(_text("label", left - 6, y + 4, _short(name, 18), anchor="end"))
        at = left + cell * (row + 0.5)
        turn = {"transform": f"rotate(-45 {_n(at)} {_n(top - 6)})"}
        parts.append(_text("label", at, top - 6, _short(name, 18), extra=turn))
        total = sum(matrix[row])
        for column, number_ in enumerate(matrix[row]):
            share = number_ / total if total else 0.0
            inner = Markup("<title>{} predicted as {}: {} of {}</title>").format(
                name, classes[column], number_, total
            )
            box = {"x": left + cell * column, "y": top + cell * row, "width": cell, "height": cell}
            inner += _tag("rect", {"class": "cell", **box})
            inner += _tag("rect", {"class": "heat", **box, "fill-opacity": share})
            if cell >= 20:
                tone = "on-heat" if share > 0.7 else "off-heat"
                middle_x = left + cell * (column + 0.5)
                inner += _text(tone, middle_x, y + 4, str(number_), anchor="middle")
            parts.append(Markup("<g>{}</g>").format(inner))
    return _svg(parts, max(wide, 120), top + cell * size + 8, ident, title, desc)


def bars(
    rows: Sequence[Bar],
    *,
    ident: str,
    title: str,
    desc: str,
    width: int = 440,
    label_width: int = 164,
    text_width: int = 120,
) -> Markup:
    """Horizontal bars of one scale; the parts of a bar follow each other."""
    longest = max((sum(length for length, _ in row.parts) for row in rows), default=0) or 1.0
    room = width - label_width - text_width
    parts = []
    for index, row in enumerate(rows):
        y = 4 + 22 * index
        parts.append(
            _text(
                "label",
                label_width - 6,
                y + 13,
                _short(row.label, (label_width - 6) // CHARACTER),
                anchor="end",
            )
        )
        at = float(label_width)
        inner = Markup("<title>{}: {}</title>").format(row.label, row.text)
        for length, tone in row.parts:
            span = room * length / longest
            box = {"x": at, "y": y + 2, "width": span, "height": 14}
            inner += _tag("rect", {"class": f"bar {tone}", **box})
            at += span
        parts.append(Markup("<g>{}</g>").format(inner))
        parts.append(_text("value", at + 7, y + 13, row.text))
    return _svg(parts, width, 8 + 22 * len(rows), ident, title, desc)


def share_bar(parts: Sequence[tuple[float, str]], *, ident: str, title: str, desc: str) -> Markup:
    """One bar of parts (length, CSS class) that fills whatever width it is given."""
    total = sum(length for length, _ in parts) or 1.0
    boxes, at = [], 0.0
    for length, tone in parts:
        span = 100 * length / total
        box = {"x": at, "y": 0, "width": span, "height": 10}
        boxes.append(_tag("rect", {"class": f"bar {tone}", **box}))
        at += span
    return _svg(boxes, 100, 10, ident, title, desc, stretch=True)


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers within [low, high], `most` at most."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10, 20) if _fits(low, high, m * power, most))
    start, end = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(start, end + 1)]


def number(value: float, span: float) -> str:
    """An axis label with as many decimals as a range of `span` needs."""
    decimals = 0 if span > 4 else 1 if span > 0.6 else 2 if span > 0.06 else 3
    text = f"{value:.{decimals}f}"
    return text.replace("-", MINUS) if float(text) else text.replace("-", "")


def _marked(first: float, last: float, *, whole: bool) -> list[tuple[float, str]]:
    """Where a plot has ticks along x, and their labels; whole numbers stay whole."""
    if whole:
        step = max(1, math.ceil((last - first) / 8))
        return [(float(n), str(n)) for n in range(int(first), int(last) + 1, step)]
    if first == last:
        return [(first, number(first, 1.0))]
    return [(place, number(place, last - first)) for place in ticks(first, last, 5)]


def _fits(low: float, high: float, step: float, most: int) -> bool:
    return math.floor(high / step + 1e-9) - math.ceil(low / step - 1e-9) < most


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values, default=0.0), max(values, default=1.0)
    margin = 0.06 * (high - low) or max(abs(high) * 0.05, 0.01)
    return low - margin, high + margin


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip() + "\u2026"


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _tag(name: str, attributes: dict[str, object]) -> Markup:
    text = Markup("<") + Markup(name)
    for key, value in attributes.items():
        shown = _n(value) if isinstance(value, int | float) else value
        text += Markup(' {}="{}"').format(Markup(key), shown)
    return text + Markup("/>")


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    return _tag("line", {"class": kind, "x1": x1, "y1": y1, "x2": x2, "y2": y2})


def _text(
    kind: str,
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    extra: dict[str, str] | None = None,
) -> Markup:
    attributes = {"class": kind, "x": _n(x), "y": _n(y), "text-anchor": anchor, **(extra or {})}
    pairs = Markup("").join(
        Markup(' {}="{}"').format(Markup(key), value) for key, value in attributes.items()
    )
    return Markup("<text{}>{}</text>").format(pairs, text)


def _svg(
    parts: Sequence[Markup],
    width: float,
    height: float,
    ident: str,
    title: str,
    desc: str,
    *,
    stretch: bool = False,
) -> Markup:
    size = (
        Markup('preserveAspectRatio="none"')
        if stretch
        else Markup('width="{}" height="{}"').format(_n(width), _n(height))
    )
    head = Markup(
        '<svg viewBox="0 0 {} {}" {} role="img" aria-labelledby="{i}-t {i}-d">'
        '<title id="{i}-t">{}</title><desc id="{i}-d">{}</desc>'
    ).format(_n(width), _n(height), size, title, desc, i=ident)
    return head + Markup("").join(parts) + Markup("</svg>")
