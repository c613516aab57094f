"""What the report says of privacy budgets."""

import pytest

from polyclinic.report.privacy_view import _up, privacy

ROW = {
    "method": "universal",
    "seed": 0,
    "epsilon": 2.00001,
    "delta": 1e-05,
    "budget": 3.0,
    "unit": "record",
    "neighbours": "with and without one image of the training split",
    "sampling": "Poisson: each unit takes part in each step by itself",
    "clip": 1.0,
    "images": None,
    "steps": [{"noise": 1.0, "rate": 0.1, "number": 7}, {"noise": 2.0, "rate": 0.1, "number": 5}],
    "accountant": "an accountant",
}
METHODS = [{"name": "universal", "title": "Universal (ours)"}]


def test_a_bound_is_rounded_up():
    assert [_up(value) for value in (2.00001, 2.0, 0.1234)] == ["2.001", "2.000", "0.124"]


def test_each_account_is_a_row_and_each_assumption_stands_once():
    sites = [{"name": name, "privacy": [ROW]} for name in ("north", "south")]
    whole = {**ROW, "unit": "site", "sampling": "none"}
    found = privacy({"sites": sites, "methods": METHODS, "site_privacy": [whole]})
    assert [r["site"] for r in found["rows"]] == ["north", "south", "each site as a whole"]
    assert found["rows"][0] == {
        "site": "north",
        "method": "Universal (ours)",
        "seed": 0,
        "epsilon": "2.001 of 3",
        "delta": "1e-05",
        "unit": "record",
        "steps": "12",
    }
    assert len(found["assumptions"]) == 2
    assert "Clip 1. Accountant: an accountant." in found["assumptions"][0]


@pytest.mark.parametrize(
    ("site", "shown"), [({"name": "a"}, False), ({"name": "a", "privacy": []}, True)]
)
def test_without_a_budget_nothing_is_said(site, shown):
    assert (privacy({"sites": [site], "methods": METHODS}) is not None) == shown
