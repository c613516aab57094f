"""The studies' results as Markdown: what a reader of the documentation sees."""

import pytest

import communication
import shift
import study_tables


def test_an_ablation_shows_differences_but_none_of_the_method_itself():
    apart = {"value": -0.0123, "low": -0.02, "high": 0.001}
    none = {"value": 0.0, "low": 0.0, "high": 0.0}
    changes = [
        {"change": "as chosen", "mean": 0.7744, "seeds": [0, 1], "over_chosen": none},
        {"change": "without the anchor", "mean": 0.762, "seeds": [0], "over_chosen": apart},
    ]
    lines = study_tables.ablation({"changes": changes}).splitlines()
    assert lines[2] == "| as chosen | 0.774 |  | 2 |"
    assert lines[3] == "| without the anchor | 0.762 | -0.012 (-0.020 to +0.001) | 1 |"


def test_communication_shows_curves_and_shares():
    def rows(way, *means):
        curve = [
            {"stage": n, "bytes": n * 5e6, "mean": mean, "linear-probe": {"blood": mean}}
            for n, mean in enumerate(means)
        ]
        return {"way": way, "seed": 0, "curve": curve}

    result = communication.summed_up([rows("fedavg", 0.6, 0.7), rows("fedmim", 0.6, 0.65)])
    lines = study_tables.communication(result).splitlines()
    assert lines[0] == "| Method | MB in all | start | stage 1 | Share of FedAvg's bytes |"
    assert lines[2] == "| FedAvg | 5 | 0.600 | 0.700 | 100.0 % |"
    assert lines[3].endswith("| 0.600 | 0.650 | not reached in 1 of 1 seeds |")


def test_scaling_shows_what_is_lost_as_a_difference():
    cell = {"cell": "few", "method": "universal", "sites": 8, "mean": 0.7, "bytes": 2e6}
    cell |= {"training_seconds": 90, "lost": {"blood": 0.1, "skin": 0.0}}
    whole = cell | {"cell": "8-sites", "lost": {}}
    lines = study_tables.scaling({"victim": "blood", "cells": [whole, cell]}).splitlines()
    assert lines[2] == "| 8-sites | Universal (ours) | 8 | 0.700 |  |  | 2 | 1.5 |"
    assert lines[3] == "| few | Universal (ours) | 8 | 0.700 | -0.050 | -0.100 | 2 | 1.5 |"


def test_shift_shows_the_best_in_bold_and_how_often_it_is_ours():
    scores = {"universal": 0.9, "mim": 0.8, "local": 0.85}
    row = {"site": "skin", "place": "Vienna", "seed": 0, "images": 7, "patients": 5, "metric": "m"}
    row |= {"scores": dict.fromkeys(shift.JUDGED_BY, scores)}
    row |= {"gains": {protocol: {} for protocol in shift.JUDGED_BY}}
    text = study_tables.shift(shift.summed_up([row]))
    assert "| skin | Vienna | 7 | **0.900** / 0.800 / 0.850 |" in text
    assert "Linear probe: better than masked image modelling at 1 of 1." in text


def test_a_left_out_site_has_a_table_of_scores_and_one_of_tests():
    scores = [
        {"method": name, "protocol": "10-labels", "site": "skin", "value": value}
        for name, value in (("universal", 0.8), ("mim", 0.7))
    ]
    gain = {"over": "mim", "protocol": "10-labels", "site": "skin", "value": 0.1}
    compared = {"over": "mim", "protocol": "10-labels", "mean_gain": 0.1, "sites_won": 1}
    verdict = {
        "gains": [gain | {"low": None, "high": None}],
        "comparisons": [compared | {"sites": 1, "p_sites": 1.0, "p_sites_holm": 1.0}],
    }
    encoders = {"universal": "Universal (ours)", "mim": "Masked image modelling"}
    text = study_tables.left_out_sites(
        {"encoders": encoders, "scores": scores, **verdict, "beside": verdict}
    )
    assert "## 10 labels a class" in text
    assert "| Universal (ours) | **0.800** | **0.800** |" in text
    assert "| Masked image modelling | +0.100 | 1 of 1 | skin +0.100 | 1 | 1 |" in text


def test_a_result_that_is_not_there_is_told(monkeypatch, tmp_path):
    missing = tmp_path / "none.json"
    words = ["study_tables.py", "shift", "--result", str(missing)]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit, match=r"study_tables: .*none\.json"):
        study_tables.main()
