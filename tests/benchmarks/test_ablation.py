"""What each part is worth: which cells there are, and how they are compared."""

from pathlib import Path

import pytest

import ablation
import tuning
from polyclinic.config import Config


def row(change, seed, **scores):
    return {"name": f"{change}, seed {seed}", "seed": seed, "linear-probe": scores}


@pytest.mark.parametrize("change", ablation.CHANGES)
def test_every_change_is_one_of_the_configuration(change):
    config = tuning.changed(Config((), Path()), ablation.CHOSEN | ablation.CHANGES[change])
    chosen = tuning.changed(Config((), Path()), ablation.CHOSEN)
    assert (config == chosen) == (change == "as chosen")


def test_differences_are_paired_by_seed_and_site():
    rows = [
        row("as chosen", 0, a=0.5, b=0.7), row("as chosen", 1, a=0.6, b=0.8),
        row("without the anchor", 0, a=0.4, b=0.6), row("without the anchor", 1, a=0.5, b=0.7),
        row("heads not first", 1, a=0.7, b=0.8),
        {"name": "with distillation, seed 0", "seed": 0, "failed": "no memory"},
    ]  # fmt: skip
    result = {r["change"]: r for r in ablation.summed_up(rows)["changes"]}
    assert [*result] == ["as chosen", "without the anchor", "heads not first"]
    assert result["as chosen"]["over_chosen"]["value"] == 0
    anchor = result["without the anchor"]
    assert anchor["mean"] == pytest.approx(0.55)
    assert anchor["sites"] == pytest.approx({"a": 0.45, "b": 0.65})
    for key in ("value", "low", "high"):  # the same everywhere, so the interval has no width
        assert anchor["over_chosen"][key] == pytest.approx(-0.1)
    heads = result["heads not first"]["over_chosen"]
    assert (heads["seeds"], heads["value"]) == ([1], pytest.approx(0.05))
    assert heads["low"] == pytest.approx(0)
    assert heads["high"] == pytest.approx(0.1)


def test_without_the_chosen_method_there_is_no_difference():
    (only,) = ablation.summed_up([row("without the anchor", 0, a=0.4)])["changes"]
    assert only["over_chosen"] is None
