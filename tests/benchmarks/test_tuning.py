"""Trials of settings: one that is done is not done again, another of its name is refused."""

import json

import pytest

import tuning
from polyclinic.errors import RunError

(WANTED,) = tuning.trials(["a universal seed=2 hold-out=skin local.stages=4"])


def kept(tmp_path, **changes):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(tuning.asked(WANTED, tuning.SCALE) | changes) + "\n")
    return {row["name"]: row for row in tuning.records.whole_rows(path)}


def test_a_trial_that_is_there_is_done(tmp_path):
    assert tuning.is_done(WANTED, tuning.SCALE, kept(tmp_path, mean=0.5))
    assert not tuning.is_done(WANTED, tuning.SCALE, {})
    assert not tuning.is_done(WANTED, tuning.SCALE, kept(tmp_path, name="b"))


@pytest.mark.parametrize(
    ("key", "value"),
    [("method", "mim"), ("seed", 1), ("settings", {"local.stages": "8"}), ("held_out", ["blood"])],
)
def test_another_trial_of_the_same_name_is_refused(tmp_path, key, value):
    with pytest.raises(RunError, match=f"a: was done with {key} = .*; give it another name"):
        tuning.is_done(WANTED, tuning.SCALE, kept(tmp_path, **{key: value}))


def test_a_smaller_scale_is_another_trial(tmp_path):
    with pytest.raises(RunError, match="settings"):
        tuning.is_done(WANTED, {}, kept(tmp_path))


def test_trials_are_held_against_the_file_before_anything_is_read(tmp_path):
    kept(tmp_path, seed=7)
    with pytest.raises(RunError, match="seed = 7, now asked for with 2"):
        tuning.run(tmp_path / "no-data", [WANTED], tuning.SCALE, tmp_path, tmp_path / "rows.jsonl")
