"""The scarcity study: who trains on what, what it may look at, going on after a kill, figures."""

import argparse
import dataclasses
import json
import sys

import numpy as np
import pytest
from scipy import ndimage, stats

import scarcity
import scarcity_arms
import scarcity_cells
import scarcity_made_up
import scarcity_patients
import scarcity_records
import scarcity_summary
from polyclinic.errors import ConfigError, DataError, RunError
from polyclinic.inpaint.augment import REMOVED_MARGIN
from polyclinic.inpaint.painting import Settings
from polyclinic.inpaint.segmenter import Slices, train_segmenter
from scarcity_arms import ARMS, REFERENCE, Recipe
from scarcity_cells import Study

pytestmark = pytest.mark.usefixtures("exact")

HOSPITALS = tuple(scarcity_made_up.HOSPITALS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Made-up patients and a painter for each hospital."""
    folder = tmp_path_factory.mktemp("scarcity")
    names = scarcity_made_up.write_patients(folder / "data")
    for hospital in HOSPITALS:
        scarcity_made_up.write_painter(folder / hospital, names, hospital)
    return folder


@pytest.fixture(scope="module")
def study(folder):
    plan = dataclasses.replace(scarcity_cells.PLAN, features=(8,) * 6, steps=2, batch_size=2)
    painters = tuple((hospital, folder / hospital) for hospital in HOSPITALS)
    return Study(folder / "data", painters, "float32", plan, edits=2, paint_steps=1)


@pytest.fixture
def patients(study):
    return scarcity_patients.by_hospital(scarcity_cells.cases_of(study.data))


@pytest.fixture
def painters(folder):
    return {name: scarcity_patients.read_painter(folder / name, name) for name in HOSPITALS}


@pytest.fixture
def some(study, patients):
    return [scarcity_cells.cases_of(study.data)[key] for key in patients["AA"]]


def test_the_smoke_test_writes_a_whole_result(tmp_path, monkeypatch, capsys):
    out = tmp_path / "result.json"
    words = ["--smoke", "--out", str(out), "--remedies", "painted-filtered"]
    monkeypatch.setattr(sys, "argv", ["scarcity.py", *words])
    scarcity.main()
    printed = capsys.readouterr().out
    assert "estimate: " in printed
    assert scarcity.NOTE in printed
    assert "still to be studied: BB, CC; the result is written after the last" in printed
    result = json.loads(out.read_text())
    assert result["chosen"].keys() == set(HOSPITALS)
    for record in result["chosen"].values():
        assert record["arm"] in ("painted", "painted-filtered")
        assert record["gains"].keys() == {"painted", "painted-filtered", scarcity_arms.LONG}
    assert result["painters"]["CC"]["fitted_to_patients"] == 6
    assert len(result["commits"]) == 1
    arms = {row["arm"] for row in result["scores"]}
    assert arms == {*scarcity_arms.MAIN, scarcity_summary.CHOSEN, scarcity_arms.RARE}
    assert {row["hospital"] for row in result["gains"]} == {"all", *HOSPITALS}
    assert all(row["p"] <= row["p_holm"] <= 1 for row in result["gains"])
    assert {row["judged_on"] for row in result["gains"] if row["hospital"] == "all"} == {14}
    assert result["imbalance"]["rarest"] == "core"
    monkeypatch.setattr(sys, "argv", ["scarcity.py", "--table", str(out)])
    scarcity.main()
    printed = capsys.readouterr().out
    assert "### Gains at CC, 4 patients" in printed
    gains = [row for row in result["gains"] if row["hospital"] == "all"]
    assert printed.count(" of 14 |") == len(gains)


def test_the_left_out_hospital_is_never_trained_on_nor_chosen_by(patients, painters):
    groups = scarcity_patients.choosing_groups(patients, painters, ["2", "4"], 3, ("geometric",))
    assert len(groups) == 3 * 2 * 3
    for group in groups:
        assert not any(f"_{group.hospital}_" in key for key in (*group.trained, *group.judged))
        assert set(group.trained) <= painters[group.hospital].trained
        assert set(group.judged) == painters[group.hospital].unseen


def test_the_test_trains_on_the_others_and_judges_all_of_one(patients):
    arms = {name: {"4": ("geometric",), "9": ("none",), "all": ("painted",)} for name in HOSPITALS}
    groups = scarcity_patients.testing_groups(patients, ["4", "9", "all"], 2, arms)
    for group in groups:
        assert group.judged == patients[group.hospital]
        assert not set(group.trained) & set(group.judged)
    assert {group.patients for group in groups if group.hospital == "CC"} == {4, 9, 10}
    merged = [group for group in groups if group.hospital == "AA"]  # 9 others: 9 is all
    assert {group.patients: group.arms for group in merged} == {
        4: ("geometric",), 9: ("none", "painted")
    }  # fmt: skip
    small, large = (
        next(g for g in merged if g.seed == 1 and g.patients == count) for count in (4, 9)
    )
    assert small.trained == large.trained[:4]
    assert small.trained != next(g for g in merged if g.seed == 0).trained


def test_a_painter_that_has_seen_the_hospital_is_refused(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"has seen 5 patients of AA, .*--leave-out 'TCGA_AA_\*'"):
        scarcity_patients.read_painter(folder / "BB", "AA")
    with pytest.raises(ConfigError, match=r"expected the finished run of `polyclinic inpaint"):
        scarcity_patients.read_painter(tmp_path, "AA")
    for name in ("splits.json", "painter.safetensors"):
        (tmp_path / name).write_bytes((folder / "AA" / name).read_bytes())
    splits = json.loads((tmp_path / "splits.json").read_text())
    (tmp_path / "splits.json").write_text(json.dumps(splits | {"train": splits["train"][1:]}))
    with pytest.raises(ConfigError, match=r"the painter's card says .* expected both from one run"):
        scarcity_patients.read_painter(tmp_path, "AA")


def test_names_without_a_hospital():
    with pytest.raises(DataError, match=r"case BraTS-1: no hospital in its name"):
        scarcity_patients.by_hospital(["TCGA_AA_1", "BraTS-1"])
    with pytest.raises(DataError, match=r"patients of AA, BB only; expected three hospitals"):
        scarcity_patients.by_hospital(["TCGA_AA_1", "TCGA_BB_1"])
    assert scarcity_patients.hospital("folder/TCGA_CC_0001") == "CC"
    assert scarcity_patients.hospital("folder/TCGA_CC_0001_painted-00003") == "CC"


def figures(cells):
    return {unit: (cell["counts"], cell["added"]) for unit, cell in cells.items()}


def test_a_study_that_was_killed_ends_alike(study, patients, painters, tmp_path, monkeypatch):
    arms = ("painted-filtered", "carvemix", REFERENCE)
    groups = scarcity_patients.choosing_groups(patients, painters, ["4"], 1, arms)[:1]
    about = study.as_dict()
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    scarcity_records.open_records(whole, about)
    scarcity_cells.run(study, groups, whole, workers=0)
    scarcity_records.open_records(killed, about)
    append = scarcity_cells.append

    def dies(path, cell):
        if cell["arm"] == "carvemix":
            raise KeyboardInterrupt
        append(path, cell)

    monkeypatch.setattr(scarcity_cells, "append", dies)
    with pytest.raises(KeyboardInterrupt):
        scarcity_cells.run(study, groups, killed, workers=0)
    monkeypatch.setattr(scarcity_cells, "append", append)
    with killed.open("a") as file:
        file.write('{"hospital": "AA", "pati')
    done = scarcity_records.open_records(killed, about)
    assert {unit[3] for unit in done} == {REFERENCE, "painted-filtered"}
    missing = dataclasses.replace(groups[0], arms=("carvemix",))
    scarcity_cells.run(study, [missing], killed, workers=0)
    ended = scarcity_records.open_records(killed, about)
    assert figures(ended) == figures(scarcity_records.open_records(whole, about))


def test_records_of_another_study_are_refused(study, tmp_path):
    path = tmp_path / "cells.jsonl"
    about = study.as_dict()
    assert scarcity_records.about_of(path) is None
    scarcity_records.open_records(path, about | {"edits": 9})
    scarcity_records.open_records(path, about)  # no cell rested on the other
    assert scarcity_records.about_of(path) == about
    cell = {"hospital": "AA", "patients": 2, "seed": 0, "arm": "painted"}
    scarcity_records.append(path, cell)
    assert scarcity_records.open_records(path, about) == {("AA", 2, 0, "painted"): cell}
    with pytest.raises(RunError, match=r"begun with edits = 2, now it is 3"):
        scarcity_records.open_records(path, about | {"edits": 3})
    with pytest.raises(RunError, match=r"begun with painting\.guidance = "):
        scarcity_records.open_records(
            path, about | {"painting": about["painting"] | {"guidance": 9}}
        )
    for other in ('{"other": 1}\n', "text\n", '{"study": 1}\n{"more": 2}\n'):
        path.write_text(other)
        with pytest.raises(RunError, match=r"holds no records of this study"):
            scarcity_records.open_records(path, about)
        assert path.read_text() == other
    with pytest.raises(RunError, match=r"holds no records of this study"):
        scarcity_records.about_of(path)


def test_a_torn_line_is_left_out_and_the_next_one_is_whole(study, tmp_path):
    path, about = tmp_path / "cells.jsonl", study.as_dict()
    scarcity_records.open_records(path, about)
    cell = {"hospital": "AA", "patients": 2, "seed": 0, "arm": "painted"}
    scarcity_records.append(path, cell)
    with path.open("a") as file:
        file.write('{"hospital": "AA", "pat')
    scarcity_records.open_records(path, about)
    scarcity_records.append(path, cell | {"seed": 1})
    assert [unit[2] for unit in scarcity_records.open_records(path, about)] == [0, 1]


@pytest.mark.parametrize(
    ("changes", "match"),
    [({"trained_on": ["TCGA_BB_1"]}, r"begun with AA\.geometric\.trained_on = "),
     ({"judged_on": []}, r"begun with AA\.geometric\.judged_on = \[\], now it is \['TCGA"),
     ({"painter": {"digest": "a"}}, r"begun with AA\.geometric\.painter\.digest = a, now it is"),
     ({"what": {}}, r"begun with AA\.geometric\.what\.added = None, now it is nothing")],
)  # fmt: skip
def test_cells_that_rest_on_something_else_are_refused(
    folder, study, patients, painters, tmp_path, changes, match
):
    arms = (REFERENCE,)
    (group, *_) = scarcity_patients.choosing_groups(patients, painters, ["4"], 1, arms)
    told = study.told(group, REFERENCE)
    place = {"hospital": "AA", "patients": 4, "seed": 0, "arm": REFERENCE}
    path = tmp_path / "choose.jsonl"
    scarcity_records.open_records(path, study.as_dict())
    scarcity_records.append(path, place | told | changes)
    arguments = argparse.Namespace(work=tmp_path, workers=0, estimate=True)
    with pytest.raises(RunError, match=match):
        scarcity._cells(arguments, study, [group], "choose.jsonl")


def test_the_test_waits_for_a_choice_and_keeps_it(folder, study, tmp_path, monkeypatch):
    about = study.as_dict()
    words = [str(folder / "data"), "--work", str(tmp_path), "--painter", f"AA={folder / 'AA'}"]
    words += ["--steps", "2", "--batch-size", "2", "--edits", "2", "--paint-steps", "1"]
    words += ["--phase", "test", "--estimate"]
    monkeypatch.setattr(scarcity, "PLAN", study.plan)
    scarcity_records.open_records(tmp_path / "test.jsonl", about)

    def stopped(match):
        with pytest.raises(RunError, match=match):
            scarcity._start(scarcity._arguments(words))

    stopped(r"no remedy is chosen for AA yet; run --phase choose with the same painters first")
    painter = scarcity_patients.read_painter(folder / "AA", "AA").described()
    chosen = {"arm": "painted", "candidates": ["painted"], "painter": painter}
    other = chosen | {"painter": {"digest": "c", "fitted_to_patients": 6}}
    scarcity_records.write_chosen(tmp_path, "AA", about, other)
    stopped(r"begun with painter of AA\.digest = c, now it is ")
    scarcity_records.write_chosen(tmp_path, "AA", about | {"edits": 9}, chosen)
    stopped(r"chosen-AA\.json: begun with edits = 9, now it is 2")
    scarcity_records.write_chosen(tmp_path, "AA", about, chosen)
    scarcity_records.write_chosen(tmp_path, "BB", about, chosen | {"candidates": ["painted-again"]})
    stopped(r"begun with remedies of BB = \['painted'\], now it is \['painted-again'\]")
    (tmp_path / "chosen-BB.json").write_text("{}")
    stopped(r"chosen-BB\.json: holds no choice of this study")
    assert scarcity_records.read_chosen(tmp_path, "CC", about) is None


@pytest.fixture(scope="module")
def painted():
    """Cases painted by the tests below, by recipe: they take long and are the same in all."""
    return {}


@pytest.fixture
def workshop(study, some, painters, painted):
    return scarcity_arms.Workshop(some, painters["BB"].open(), study.plan, 1, 3, (0,), painted)


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_adds_what_it_says(some, workshop, arm):
    added = workshop.added(ARMS[arm])
    made = 3 * ARMS[arm].recipe.times
    expected = {"nothing": 0, "carvemix": 3, "painted": round(made * ARMS[arm].kept)}
    assert len(added) == expected[ARMS[arm].added]
    for case in added:
        assert all(volume.shape == case.components.shape for volume in case.volumes.values())
        assert not any(case.components is one.components for one in some)


@pytest.mark.parametrize("arm", ARMS)
def test_all_arms_draw_the_same_share_of_tumour_free_slices(study, workshop, arm, monkeypatch):
    drawn = []

    def draw(cases, plan, *seed, weights=None):
        plan = dataclasses.replace(plan, batch_size=300, geometry=None)
        drawn.append(Slices(cases, plan, *seed, weights=weights).batch(0)[1])
        return train_segmenter(cases[:1], study.plan, 0)

    monkeypatch.setattr(scarcity_arms, "train_segmenter", draw)
    workshop.train(arm)
    assert drawn
    for targets in drawn:
        shown = float((targets > 0).any(2).any(1).float().mean())
        assert shown == pytest.approx(study.plan.tumour_slices, abs=0.08)


def test_a_tumour_painted_again_keeps_its_shape(some, painters):
    made = scarcity_arms.painted_again(painters["BB"].open(), some[:1], Settings(steps=1), 0, 0)
    tumour = made.components > 0
    assert tumour[0].any()
    windows = [slice(z, z + len(tumour)) for z in range(len(some[0].components))]
    window = next(w for w in windows if np.array_equal(some[0].components[w], made.components))
    around = np.ones((1, 2 * REMOVED_MARGIN + 1, 2 * REMOVED_MARGIN + 1), bool)
    far = ~ndimage.binary_dilation(tumour, around)
    for number, volume in made.volumes.items():
        real = some[0].volumes[number][window]
        assert np.array_equal(volume[far], real[far])
        assert not np.isclose(volume[tumour], real[tumour]).any()


def test_tumours_painted_away_leave_the_rest(some, painters):
    case, rng = some[0], np.random.default_rng(0)
    made = scarcity_arms.without_tumour(painters["BB"].open(), case, Settings(steps=1), rng)
    first = int(np.random.default_rng(0).choice([2, 3]))
    window = slice(first, first + len(made.components))
    around = np.ones((1, 2 * REMOVED_MARGIN + 1, 2 * REMOVED_MARGIN + 1), bool)
    filled = ndimage.binary_dilation(case.components[window] > 0, around)
    assert not made.components.any()
    for number, volume in made.volumes.items():
        assert np.array_equal(volume[~filled], case.volumes[number][window][~filled])
        assert not np.array_equal(volume[filled], case.volumes[number][window][filled])
    healthy = dataclasses.replace(case, components=np.zeros_like(case.components))
    with pytest.raises(DataError, match=r"shows no tumour; expected one to paint over"):
        scarcity_arms.without_tumour(painters["BB"].open(), healthy, Settings(steps=1), rng)


def test_more_various_shapes_still_fit(some):
    by_key = {case.key: case for case in some}
    plain = scarcity_arms.planned(some, Recipe(), 8, 0)
    various = [scarcity_arms.varied(edit, by_key[edit.target]) for edit in plain]
    assert any(a.parts.shape != b.parts.shape for a, b in zip(plain, various, strict=True))
    for edit in various:
        target = by_key[edit.target]
        tumour = edit.component_map(target.components.shape) > 0
        assert target.head[tumour].all()
        assert not target.components[tumour].any()


def test_the_filter_keeps_what_is_found(some):
    class Knows:
        """Finds everything in one case, nothing in the others."""

        def predict(self, volumes):
            known = volumes is some[2].volumes
            return some[2].components if known else np.zeros_like(some[0].components)

    assert scarcity_arms.best(Knows(), some, 0.2) == [some[2]]
    kept = scarcity_arms.best(Knows(), some, 0.6)
    assert len(kept) == 3
    assert [case for case in some if case in kept] == kept


JUDGED = {"AA": ("a", "b"), "BB": ("c",), "CC": ("d", "e")}


def cell(dice, keys):
    """Counts of which every Dice is `dice`, of 100 found and 100 true voxels."""
    row = [round(100 * dice), 100, 100]
    return {"counts": {key: [row, [0, 0, 0], row, row, [0, 0, 0]] for key in keys}}


def cells(**dices):
    """Cells of 2 seeds and 5 patients; a Dice for each arm."""
    return {
        (name, 5, seed, arm.replace("_", "-")): cell(dice + 0.1 * seed, keys)
        for name, keys in JUDGED.items() for seed in (0, 1) for arm, dice in dices.items()
    }  # fmt: skip


def test_gains_are_the_differences_and_their_p_is_corrected():
    found = cells(geometric=0.5, painted=0.6, carvemix=0.4)
    arms = ("geometric", "painted", "carvemix", "none")
    table = scarcity_summary.table(found, JUDGED, dict.fromkeys(JUDGED, 9), "5", 2, arms, {})
    assert list(table.counts) == list(arms[:3])  # `none` has no cells
    gains = scarcity_summary.gains([table, scarcity_summary.only(table, "BB")], 0)
    rows = {(row["measure"], row["arm"], row["hospital"]): row for row in gains}
    painted = rows["whole", "painted", "all"]
    assert painted["value"] == pytest.approx(0.1)
    assert painted["low"] == painted["high"] == pytest.approx(0.1)
    assert painted["per_seed"] == pytest.approx([0.1, 0.1])
    assert painted["patients_won"] == painted["judged_on"] == 5
    assert painted["p"] == pytest.approx(2 / 2**5)
    assert painted["p_holm"] == pytest.approx(2 * painted["p"])
    assert rows["oedema", "carvemix", "all"]["value"] == pytest.approx(-0.1)
    assert ("core", "painted", "all") not in rows  # nobody shows it
    assert rows["whole", "painted", "BB"]["low"] is None  # one patient has no interval
    assert scarcity_summary.imbalance(gains, [table])["rarest"] == "oedema"
    (score,) = (
        row for row in scarcity_summary.scores([table], 0)
        if (row["measure"], row["arm"]) == ("whole", "painted")
    )  # fmt: skip
    assert score["value"] == pytest.approx(0.65)


def test_an_interval_over_draws_takes_each_pair_of_segmenters_once():
    found = cells(geometric=0.5, painted=0.6)
    for seed, dice in ((0, 0.5), (1, 0.9)):  # at AA: 0.0 and 0.3 over the reference
        found["AA", 5, seed, "painted"] = cell(dice, JUDGED["AA"])
    arms, available = ("geometric", "painted"), dict.fromkeys(JUDGED, 9)
    table = scarcity_summary.table(found, JUDGED, available, "5", 2, arms, {})
    (row,) = (r for r in scarcity_summary.gains([table], 0) if r["measure"] == "whole")
    # two of five patients; of three degrees of freedom two add nothing to the variance
    reach = stats.t.ppf(0.975, 3) * np.sqrt(2 * 0.15**2 / 3 * (2**2 + 1**2 + 2**2) / 5**2 / 2)
    assert row["value"] == pytest.approx((0.15 * 2 + 0.1 * 3) / 5)  # patients count alike
    assert row["draws"] == pytest.approx(
        {"count": 6, "low": row["value"] - reach, "high": row["value"] + reach}
    )
    one = [(np.array([0.0, 0.3, 0.1]), 4)]
    expected = stats.ttest_1samp(one[0][0], 0).confidence_interval(0.95)
    assert scarcity_summary.over_draws(one) == pytest.approx(
        {"count": 3, "low": expected.low, "high": expected.high}
    )
    alone = scarcity_summary.over_draws([(np.array([0.1]), 4)])
    assert alone == {"count": 1, "low": None, "high": None}


def claimed(**dices):
    """The claim, where the remedy that was chosen is `painted-guided`."""
    found, chosen = cells(**dices), dict.fromkeys(JUDGED, "painted-guided")
    arms = ("geometric", "painted", scarcity_summary.CHOSEN)
    available = dict.fromkeys(JUDGED, 9)
    table = scarcity_summary.table(found, JUDGED, available, "5", 2, arms, chosen)
    return scarcity_summary.claim(scarcity_summary.gains([table], 0))


def test_the_claim_is_that_of_the_remedy_that_was_chosen():
    assert claimed(geometric=0.5, painted=0.5, painted_guided=0.6)["pass"]
    assert not claimed(geometric=0.5, painted=0.5, painted_guided=0.52)["pass"]
    better = claimed(geometric=0.5, painted=0.7, painted_guided=0.52)
    assert not better["pass"]  # plain painting was not what was chosen
    assert {row["arm"]: row.get("holds") for row in better["rows"]} == {
        "painted": None, scarcity_summary.CHOSEN: False
    }  # fmt: skip
    assert not claimed(geometric=0.5, painted=0.7)["pass"]
    assert not scarcity_summary.claim([])["pass"]


def test_each_hospital_has_its_own_choice():
    found = cells(geometric=0.5, painted=0.6, painted_guided=0.55)
    found |= {unit: cell(0.9, JUDGED["BB"]) for unit in found
              if unit[0] == "BB" and unit[3] == "painted-guided"}  # fmt: skip
    chosen = scarcity_summary.choose(found, ("painted", "painted-guided"), list(JUDGED))
    names = {name: record["arm"] for name, record in chosen.items()}
    assert names == {"AA": "painted", "BB": "painted-guided", "CC": "painted"}
    assert chosen["AA"]["gains"]["painted"] == pytest.approx(0.1)
    arms = ("geometric", scarcity_summary.CHOSEN)
    table = scarcity_summary.table(found, JUDGED, dict.fromkeys(JUDGED, 9), "5", 2, arms, names)
    dice = dict(zip(table.keys, table.dice(scarcity_summary.CHOSEN, 0).mean(0), strict=True))
    assert dice == pytest.approx({"a": 0.65, "b": 0.65, "c": 0.9, "d": 0.65, "e": 0.65})
    with pytest.raises(RunError, match=r"no cell to choose a remedy for AA by"):
        scarcity_summary.choose({}, ("painted",), ["AA"])


@pytest.mark.parametrize(
    ("words", "match"),
    [([], r"expected the folder of patients"),
     (["DATA", "--painter", "AA"], r"--painter: expected HOSPITAL=RUN, got 'AA'"),
     (["DATA"], r"one for each of the hospitals AA, BB, CC, or for some of them, got none"),
     (["DATA", "--painter", "DD=AA"], r"of the hospitals AA, BB, CC, or for .*, got DD"),
     (["DATA", "--sizes", "5", "1"], r"sizes: expected numbers of patients, 2 or more, or all")],
)  # fmt: skip
def test_options_that_make_no_study(folder, monkeypatch, words, match):
    given = [str(folder / "data") if word == "DATA" else word for word in words]
    monkeypatch.setattr(sys, "argv", ["scarcity.py", *given])
    with pytest.raises(SystemExit, match=match):
        scarcity.main()


def test_a_worker_whose_study_was_killed_adds_nothing(
    study, patients, painters, tmp_path, monkeypatch
):
    class Gone:
        def is_alive(self):
            return False

    path, about = tmp_path / "cells.jsonl", study.as_dict()
    groups = scarcity_patients.choosing_groups(patients, painters, ["4"], 1, (REFERENCE,))[:1]
    scarcity_records.open_records(path, about)
    monkeypatch.setattr(scarcity_cells.multiprocessing, "parent_process", Gone)
    with pytest.raises(RunError, match=r"the study that this process belongs to has ended"):
        scarcity_cells.run(study, groups, path, workers=0)
    assert not scarcity_records.open_records(path, about)


def test_a_long_tumour_is_painted_in_a_few_of_its_slices(some):
    edit = scarcity_arms.plan_edits(some, 1, "none", (), 0)[0]
    parts = np.arange(1, 41, dtype=np.uint8)[:, None, None] * np.ones((1, 5, 5), np.uint8)
    corners = set()
    for seed in range(20):
        whole = dataclasses.replace(edit, parts=parts, corner=(3, 7, 9), seed=seed)
        short = scarcity_arms.shortened(whole, scarcity_arms.PAINTED_SLICES)
        assert len(short.parts) == scarcity_arms.PAINTED_SLICES
        assert short.corner[1:] == (7, 9)
        assert np.array_equal(short.parts[:, 0, 0], np.arange(6) + short.corner[0] - 3 + 1)
        corners.add(short.corner[0])
    assert len(corners) > 5
    few = dataclasses.replace(edit, parts=parts[:4])
    assert np.array_equal(
        scarcity_arms.shortened(few, scarcity_arms.PAINTED_SLICES).parts, few.parts
    )
