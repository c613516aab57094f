"""What the report says of privacy budgets."""

import pytest

from polyclinic.report.privacy_view import privacy
from polyclinic.run.claims import bound, weight_claims

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
    assert [bound(value) for value in (2.00001, 2.0, 0.1234)] == ["2.001", "2.000", "0.124"]


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


def test_of_a_limit_that_sites_keep_to_themselves_the_limit_is_said():
    limit = {"epsilon": 8.0, "delta": 1e-05, "unit": "record", "methods": ["universal"]}
    found = privacy({"sites": [{"name": "a"}], "methods": METHODS, "privacy_limit": limit})
    assert found["rows"] == []
    assert "epsilon at most 8 at delta 1e-05 for each record" in found["limit"]


def test_weights_are_claimed_what_was_spent_on_them_alone():
    sites = [{"name": "north", "privacy": [ROW, {**ROW, "seed": 1, "epsilon": 9.0}]}]
    sites.append({"name": "south", "privacy": [{**ROW, "epsilon": 2.5}]})
    whole = {**ROW, "unit": "site", "neighbours": "with and without a site", "epsilon": 1.0}
    results = {"sites": sites, "site_privacy": [whole]}
    of_images, of_sites = weight_claims(results, "universal", 0)
    assert "for each record (with and without one image of the training split)" in of_images
    assert (
        "epsilon 2.001 at delta 1e-05 at north; epsilon 2.500 at delta 1e-05 at south" in of_images
    )
    assert "for each site (with and without a site), epsilon 1.000 at delta 1e-05" in of_sites
    assert weight_claims(results, "mim", 0) == []
