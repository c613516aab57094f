"""What the report claims in words, and never claims."""

from typing import Any

import pytest

from polyclinic.report import formats, wording


def gains(*values: float | None) -> list[dict[str, Any]]:
    return [
        {
            "site": f"s{i}",
            "value": v,
            "low": None if v is None else v - 0.01,
            "high": None if v is None else v + 0.01,
        }
        for i, v in enumerate(values)
    ]


def test_the_headline_counts_sites_and_names_the_worst() -> None:
    text = wording.headline("The universal model", "working alone", gains(0.02, -0.008, 0.03))
    assert text == (
        "The universal model scores higher than working alone at 2 of 3 sites; "
        "the worst, s1, loses 0.8 points (95\u202f% interval \u22121.8 to 0.2)"
    )


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ((0.02, 0.01), "at all 2 sites; the smallest gain, at s1, is 1.0 point (95"),
        ((-0.02, -0.03), "at none of 2 sites; the worst, s1, loses 3.0 points (95"),
        ((0.0, 0.02), "at 1 of 2 sites; the worst, s0, neither gains nor loses (0.0 points)"),
        ((1e-17, 0.02), "at 1 of 2 sites; the worst, s0, neither gains nor loses (0.0 points)"),
        ((0.0003, 0.02), "at all 2 sites; the smallest gain, at s0, is less than 0.1 points (95"),
        ((-0.0003, 0.02), "at 1 of 2 sites; the worst, s0, loses less than 0.1 points (95"),
        ((0.02, None, -0.01), "at 1 of 2 measured sites; the worst, s2, loses 1.0 point (95"),
        ((0.02,), "gains 2.0 points over working alone at s0"),
        ((None,), "no measured gain of the universal model over working alone"),
    ],
)
def test_headlines(values: tuple[float | None, ...], part: str) -> None:
    assert part in wording.headline("The universal model", "working alone", gains(*values))


def comparison(p_holm: float | None, mean_gain: float | None = 0.02) -> dict[str, Any]:
    return {"wins": 20, "n": 24, "ties": 0, "mean_gain": mean_gain, "p_holm": p_holm}


@pytest.mark.parametrize("p", [0.05, 0.0501, 0.3, 1.0])
def test_nothing_is_called_significant_from_005_on(p: float) -> None:
    text = wording.significance(comparison(p))
    assert "not statistically significant" in text
    assert "is statistically significant" not in text
    assert wording.verdict(comparison(p)) == "no difference shown"


@pytest.mark.parametrize(("gain", "word"), [(0.02, "gain"), (-0.02, "loss")])
def test_significance_has_a_direction(gain: float, word: str) -> None:
    assert f"the {word} is statistically significant" in wording.significance(
        comparison(0.0499, gain)
    )
    assert wording.verdict(comparison(0.0499, gain)) == ("higher" if gain > 0 else "lower")


def test_no_test_is_no_claim() -> None:
    assert "No significance test" in wording.significance(None)
    assert "not enough pairs" in wording.significance(comparison(None, None))
    assert wording.verdict(comparison(None)) == "not tested"


def test_intervals_are_counted() -> None:
    assert wording.certainty(gains(0.02, 0.005, -0.03)) == (
        "Of 3 intervals, 1 lies wholly above zero, 1 wholly below; 1 includes zero."
    )
    assert wording.certainty(gains(0.02)) == "The interval lies wholly above zero."
    assert wording.certainty(gains(0.0, None)) == "The interval includes zero."
    assert wording.certainty(gains(None)) == "No interval is available."


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.0499, "0.0499"), (0.04999, "0.0499"), (0.05, "0.050"), (0.0501, "0.050"), (0.012, "0.012")],
)
def test_p_values_do_not_round_across_the_threshold(p: float, text: str) -> None:
    assert formats.p_value(p) == text


def test_numbers() -> None:
    assert formats.p_value(0.0004) == "<\u202f0.001"
    assert formats.score(0.87349) == "0.873"
    assert formats.score(-0.5) == "\u22120.500"
    assert formats.score(None) == "\u2013"
    assert formats.points(0.0131) == "+1.3"
    assert formats.points(-0.0004) == "0.0"
    assert formats.points_interval(-0.021, 0.004) == "\u22122.1 to 0.4"
    assert formats.points_interval(None, 0.1) == ""
    assert formats.count(9999) == "9999"
    assert formats.count(1234567) == "1\u202f234\u202f567"
    assert formats.data_size(999) == "999\u202fB"
    assert formats.data_size(22_412_800) == "22.4\u202fMB"
    assert formats.data_size(5e15) == "5000.0\u202fTB"
    assert formats.duration(3.21) == "3.2\u202fs"
    assert formats.duration(200) == "3\u202fmin\u202f20\u202fs"
    assert formats.duration(3900) == "1\u202fh\u202f05\u202fmin"
    assert formats.memory(1536) == "1.5\u202fGiB"
    assert formats.plain([1, 0.5, True]) == "1, 0.5, yes"
