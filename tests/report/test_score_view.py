"""Quality against bytes: what a point stands for, and which methods and stages have one."""

from typing import Any

import pytest

from polyclinic.report import formats
from polyclinic.report.score_view import _score_by_bytes, guard, quality_by_bytes


def row(seed: int, stage: int, site: str, received: float | None, sent: int) -> dict[str, Any]:
    return {
        "method": "fedavg",
        "seed": seed,
        "stage": stage,
        "site": site,
        "received": received,
        "bytes_up": sent,
    }


def test_a_point_is_the_mean_of_all_sites_and_what_they_had_sent_before() -> None:
    rows = [
        row(seed, stage, site, score + seed / 10, 1_000_000 * (1 + seed))
        for seed in (0, 1)
        for stage, score in ((1, 0.5), (2, 0.7))
        for site in ("skin", "chest")
    ]
    points = _score_by_bytes(rows)
    assert [p[0] for p in points] == [0.0, 3.0]  # 2 MB of seed 0 and 4 MB of seed 1, halved
    assert [p[1] for p in points] == pytest.approx([0.55, 0.75])


def test_a_stage_at_which_a_site_was_away_is_no_point_but_its_bytes_count() -> None:
    rows = [
        row(0, 1, "skin", 0.5, 1_000_000),
        row(0, 1, "chest", 0.5, 1_000_000),
        row(0, 2, "skin", 0.9, 1_000_000),
        row(0, 3, "skin", 0.6, 1_000_000),
        row(0, 3, "chest", 0.6, 1_000_000),
    ]
    assert _score_by_bytes(rows) == ((0.0, 0.5), (3.0, 0.6))


def test_methods_that_send_nothing_are_not_shown(sample: Any) -> None:
    results = sample(sites=2)
    shown = str(quality_by_bytes(results))
    talking = {r["method"] for r in results["communication"] if r["bytes_up"]}
    for method in results["methods"]:
        assert (f"<title>{method['title']}</title>" in shown) == (method["name"] in talking)
    for stored in results["curves"]:
        del stored["bytes_up"]  # a file of an early version
    assert quality_by_bytes(results) is None


def test_the_last_point_is_read_out(sample: Any) -> None:
    results = sample(sites=1, methods=("fedavg", "local"))
    fedavg = [r for r in results["curves"] if r["method"] == "fedavg"]
    end = formats.score(
        sum(r["received"] for r in fedavg if r["stage"] == 8) / len(results["seeds"])
    )
    assert f"FedAvg: {end} after {7 * 2.8016:.2f} MB" in str(quality_by_bytes(results))


def test_what_sites_gain_is_a_line_a_site_over_both_references(sample: Any) -> None:
    results = sample(sites=2)
    assert guard(results) is None
    for stored in results["curves"]:
        if stored["method"] == "universal":
            stored |= {"gain_over_alone": -0.02 * stored["stage"], "gain_over_start": None}
    shown = str(guard(results))
    names = [site["name"] for site in results["sites"]]
    assert all(shown.count(f"<title>{name}</title>") == 1 for name in names)  # NaN has no line
    assert f"{names[0]} over alone: \u221216" in shown
