"""No small number leaves, and none can be derived by subtraction."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyclinic.data.checks import run_checks, survey_folder
from polyclinic.data.checks.sharing import MIN_COUNT, aggregates, suppressed
from polyclinic.errors import DataError


@settings(max_examples=200, derandomize=True)
@given(st.lists(st.integers(0, 40), max_size=8))
def test_what_is_left_out_is_never_a_small_number(counts):
    kept = suppressed(counts)
    assert all(k is None or k == c for k, c in zip(kept, counts, strict=True))
    assert all(k is None or k >= MIN_COUNT for k in kept)
    hidden = sum(c for k, c in zip(kept, counts, strict=True) if k is None)
    assert hidden == 0 or hidden >= MIN_COUNT or all(k is None for k in kept)


def shared(folder):
    survey = survey_folder(folder, jobs=1, done=lambda _: None)
    return aggregates(survey, run_checks(survey, lambda _: None))


def test_counts_without_names(manifest):
    for number in range(3):
        (manifest / "images" / f"{number:02}.png").write_bytes(b"no image")
    result = shared(manifest)
    assert result["images"] == 57
    assert result["patients"] == 29
    assert result["classes"] == [29, 28]
    assert result["findings"]["reading"] is None  # three: fewer than ten
    text = json.dumps(result)
    assert not any(word in text for word in ("png", "p01", "listed", "images/"))


def test_a_small_class_hides_another(site):
    for path in sorted((site / "b").iterdir())[4:]:
        path.unlink()
    assert shared(site)["classes"] == [None, None]


def test_a_small_site_shares_nothing(site, manifest):
    for path in sorted(site.rglob("*.png"))[9:]:
        path.unlink()
    with pytest.raises(DataError, match=r"9 readable images; aggregates may leave from 10 on"):
        shared(site)
    lines = (manifest / "labels.csv").read_text().splitlines()
    (manifest / "labels.csv").write_text("\n".join(lines[:17]))
    with pytest.raises(DataError, match=r"8 patients; aggregates may leave from 10 on"):
        shared(manifest)
