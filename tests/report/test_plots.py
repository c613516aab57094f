"""Plots: well-formed, everything within the picture, round ticks."""

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import Markup

from polyclinic.report import plots

NUMBER = st.floats(-50, 50, allow_subnormal=False)
ABOUT = {"ident": "p", "title": "A <title>", "desc": "what & why"}


def tree(svg: Markup) -> ET.Element:
    root = ET.fromstring(str(svg))
    width, height = (float(v) for v in root.attrib["viewBox"].split()[2:])
    for element in root.iter():
        for key in ("x", "x1", "x2", "cx"):
            assert -0.1 <= float(element.attrib.get(key, 0)) <= width + 0.1, element.attrib
        for key in ("y", "y1", "y2", "cy"):
            assert -0.1 <= float(element.attrib.get(key, 0)) <= height + 0.1, element.attrib
    return root


@settings(max_examples=40, derandomize=True)
@given(st.lists(st.tuples(NUMBER, st.floats(0, 9), st.floats(0, 9)), max_size=6), st.booleans())
def test_intervals_stay_within_the_picture(
    rows: list[tuple[float, float, float]], zero: bool
) -> None:
    drawn = [plots.Interval(f"<{v}>", v, v - a, v + b, "t", "up") for v, a, b in rows]
    root = tree(plots.intervals(drawn, axis="points", zero=zero, **ABOUT))
    assert len(root.findall(".//circle")) == len(rows)
    assert root.attrib["aria-labelledby"] == "p-t p-d"
    assert root.findtext("title") == "A <title>"


def test_an_interval_without_numbers_has_only_its_label() -> None:
    row = plots.Interval("site", None, None, None, "-", "up")
    root = tree(plots.intervals([row], axis="points", zero=True, **ABOUT))
    assert root.findall(".//circle") == []


@settings(max_examples=40, derandomize=True)
@given(st.lists(st.lists(NUMBER, min_size=1, max_size=30), min_size=1, max_size=8))
def test_curves_have_one_marker_per_point(courses: list[list[float]]) -> None:
    lines = [
        plots.Line(f"m{i}", i, tuple((float(x), y) for x, y in enumerate(course, start=1)))
        for i, course in enumerate(courses)
    ]
    root = tree(plots.curves([("one", lines), ("two", lines[:1])], axis="stage", **ABOUT))
    marks = [p for p in root.findall(".//path") if p.attrib["class"] == "mark"]
    assert len(marks) == sum(map(len, courses)) + len(courses[0])


def test_whole_numbers_along_x_stay_whole_and_others_get_round_ticks() -> None:
    def labels(*along: float) -> list[str | None]:
        lines = [plots.Line("m", 0, tuple((x, 0.5) for x in along))]
        root = tree(plots.curves([("one", lines)], axis="MB", **ABOUT))
        return [t.text for t in root.findall(".//text") if t.attrib.get("text-anchor") == "middle"]

    assert labels(1, 2, 3) == ["1", "2", "3", "MB"]
    assert labels(1, 30)[:3] == ["1", "5", "9"]
    assert labels(0, 0.81, 1.62) == ["0.0", "0.5", "1.0", "1.5", "MB"]
    assert labels(0.5) == ["0.5", "MB"]


@pytest.mark.parametrize("size", [2, 9, 40])
def test_confusion_shows_shares_of_rows(size: int) -> None:
    matrix = [[3 if i == j else 1 for j in range(size)] for i in range(size)]
    matrix[0] = [0] * size
    names = [f"a long class name {i}" for i in range(size)]
    root = tree(plots.confusion(names, matrix, **ABOUT))
    heat = [r for r in root.findall(".//rect") if r.attrib["class"] == "heat"]
    assert len(heat) == size * size
    assert float(heat[0].attrib["fill-opacity"]) == 0
    assert float(heat[-1].attrib["fill-opacity"]) == pytest.approx(3 / (size + 2), abs=0.01)


def test_bars_share_one_scale() -> None:
    rows = [plots.Bar("a", ((1, "x"), (3, "y")), "4"), plots.Bar("b", ((2, "x"),), "2")]
    root = tree(plots.bars(rows, **ABOUT))
    widths = [float(r.attrib["width"]) for r in root.findall(".//rect")]
    assert widths[0] + widths[1] == pytest.approx(2 * widths[2], abs=0.02)
    tree(plots.bars([plots.Bar("none", ((0, "x"),), "0")], **ABOUT))
    tree(plots.share_bar(((0, "x"), (0, "y")), **ABOUT))


@settings(max_examples=200, derandomize=True)
@given(NUMBER, st.floats(1e-4, 100), st.integers(3, 8))
def test_ticks_are_few_round_and_inside(low: float, span: float, most: int) -> None:
    found = plots.ticks(low, low + span, most)
    assert 1 <= len(found) <= most
    assert all(low - 1e-6 * span <= t <= low + span * (1 + 1e-6) for t in found)


def test_axis_numbers() -> None:
    assert plots.number(-5, 20) == "\u22125"
    assert plots.number(-0.0, 20) == "0"
    assert plots.number(0.85, 0.2) == "0.85"
