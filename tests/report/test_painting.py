"""The report of a painter's evaluation: complete, self-contained, safe, and its errors."""

import json
import re

import pytest
from PIL import Image

from polyclinic.errors import RunError
from polyclinic.report.painting import write_painting_report
from polyclinic.report.painting_tables import QUESTIONS, number
from polyclinic.run.painter_evaluation.tables import TABLES


def entry(variant, measure, value=0.5, **more):
    return {
        "variant": variant,
        "kind": "infill",
        "by": "all",
        "group": "all",
        "measure": measure,
        "value": value,
        "low": None if value is None else value - 0.25,
        "high": None if value is None else value + 0.25,
        "edits": 12,
        "patients": 3,
        **more,
    }


@pytest.fixture
def results():
    variants = ("flow & <b>", "Telea")
    shown = [entry(v, m) for v in variants for m in ("psnr", "ssim")]
    by_size = [entry(variants[0], "psnr", 21.5, by="size", group="small")]
    tables = {question.table: [] for question in QUESTIONS}
    tables["infill"] = shown + by_size
    tables["seams"] = [entry(variants[0], "ring_auc", None)]
    return {
        "schema": "polyclinic.painting/1",
        "version": "0.1.0",
        "created": "2025-03-01T09:30:00Z",
        "painter": {"name": "painter", "digest": "ab" * 32, "objective": "flow", "card": {}},
        "data": ["cases"],
        "split": "test",
        "patients": {"held_out": 3, "training": 9},
        "edits": {"infill": 12},
        "variants": [
            {"name": variants[0], "calls": 4, "tumours": True, "limit": None},
            {"name": variants[1], "calls": 0, "tumours": False, "limit": 7},
        ],
        "encoder": "an encoder",
        "segmenter": "given",
        "config": {"seed": 0, "segmenter_plan": {"steps": 5}},
        "environment": {"torch": "2"},
        "tables": tables,
        "pictures": [
            {
                "edit": 0,
                "kind": "infill",
                "shape": "exact",
                "request": "tumour-free",
                "sequence": "t2f",
                "tiles": [
                    {"name": "real", "image": "pictures/a.png"},
                    {"name": "lost", "image": "pictures/b.png"},
                ],
            }
        ],
    }


@pytest.fixture
def write(tmp_path):
    """results -> the page that is written of them."""
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "pictures" / "a.png")

    def write(results):
        (tmp_path / "results.json").write_text(json.dumps(results))
        return write_painting_report(tmp_path).read_text(encoding="utf-8")

    return write


def test_the_page_shows_numbers_intervals_and_pictures(write, results):
    page = write(results)
    assert "0.50<small>0.25 to 0.75</small>" in page  # PSNR
    assert "0.500<small>0.250 to 0.750</small>" in page  # SSIM
    assert "21.50" in page
    assert page.count("data:image/png;base64,") == 1
    assert "picture missing" in page
    assert "<svg" in page
    assert "prefers-color-scheme: dark" in page
    assert "Does the border show?" not in page  # nothing is known of it
    assert write(results) == page


def test_intervals_are_announced_where_there_are_several_patients(write, results):
    assert "95 % intervals over patients" in write(results)
    results["patients"]["held_out"] = 1
    page = write(results)
    assert "intervals" not in page
    assert "all of one patient" in page


def test_names_are_text_and_nothing_is_fetched(write, results):
    page = write(results)
    assert "flow &amp; &lt;b&gt;" in page
    assert "<b>" not in page
    assert re.findall(r"(?:src|href)=\"(?!#|data:)[^\"]*\"", page) == []


def test_every_table_has_a_question():
    assert {question.table for question in QUESTIONS} == {*TABLES, "differences"}
    assert all(q.shown is None or q.shown in q.measures for q in QUESTIONS)
    assert number("psnr", -1.234) == "\u22121.23"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": "polyclinic.results/1"}, r"expected schema 'polyclinic.painting/1', got"),
        ({"tables": None}, r"`tables` is missing"),
    ],
)
def test_other_results_are_refused(write, results, change, message):
    changed = {key: value for key, value in (results | change).items() if value is not None}
    with pytest.raises(RunError, match=message):
        write(changed)


def test_a_picture_outside_and_a_damaged_file_are_refused(write, results, tmp_path):
    results["pictures"][0]["tiles"][0]["image"] = "../a.png"
    with pytest.raises(RunError, match=r"lies outside the run directory"):
        write(results)
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(RunError, match=r"cannot be read .* `polyclinic inpaint evaluate` wrote"):
        write_painting_report(tmp_path)
    assert not (tmp_path / "report.html").exists()
