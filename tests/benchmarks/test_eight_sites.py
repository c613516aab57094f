"""The comparison on eight sites: what is judged by what, once; going on after a kill; the bars."""

import json
import math
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import eight_sites
import eight_sites_bytes
import eight_sites_cells
import eight_sites_estimate
import eight_sites_study
import eight_sites_summary
import eight_sites_tables
from eight_sites_estimate import estimate
from eight_sites_pack import cells, load_packs
from eight_sites_study import CHOSEN, JUDGED_BY, SINGLE, TOUCHED, Study, as_chosen, configuration
from polyclinic.config import LocalConfig, MimConfig
from polyclinic.errors import ConfigError, RunError
from polyclinic.evaluate.bootstrap import cluster_weights
from polyclinic.evaluate.metrics import METRICS, Predictions, primary_metric
from polyclinic.evaluate.protocols import protocol_plan
from polyclinic.federation.workers import Workers
from polyclinic.models.device import fixed_threads
from polyclinic.models.encoder import build_encoder
from polyclinic.models.state import load_state, state_of
from polyclinic.run.directory import open_run
from polyclinic.run.experiment import prepare

NAMES = ("north", "south", "west")
METHODS = ("universal", "fedavg", "local")
QUICK = (
    "data.image_size=16",
    "data.val_share=0.2",
    "data.test_share=0.25",
    "mim.epochs=1",
    "mim.baseline_epochs=1",
    "mim.batch_size=8",
    "local.stages=2",
    "local.min_steps=1",
    "local.max_steps=1",
    "local.dense_head_epochs=1",
    "local.batch_size=8",
    "universal.distil_every=0",
    "evaluation.fine_tune_epochs=1",
    "evaluation.fine_tune_max_steps=1",
    "evaluation.bootstrap=20",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two sites of classes, one of masks, and a corpus."""
    folder = tmp_path_factory.mktemp("eight")
    rng = np.random.default_rng(0)
    for name in NAMES[:2]:
        for label in range(2):
            own = folder / "sites" / name / f"class{label}"
            own.mkdir(parents=True)
            for n in range(16):
                pixels = rng.integers(0, 160, (16, 16)) + label * 60
                Image.fromarray(pixels.astype(np.uint8)).save(own / f"{n:02d}.png")
    for kind in ("images", "masks"):
        (folder / "sites" / "west" / kind).mkdir(parents=True)
    for n in range(20):
        mask = np.zeros((16, 16), np.uint8)
        mask[n % 8 : n % 8 + 6, 4:10] = 255
        pixels = (rng.integers(0, 60, (16, 16)) + mask // 2).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "sites" / "west" / "images" / f"{n:02d}.png")
        Image.fromarray(mask).save(folder / "sites" / "west" / "masks" / f"{n:02d}.png")
    (folder / "corpus").mkdir()
    for n in range(12):
        pixels = rng.integers(0, 255, (16, 16, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "corpus" / f"{n}.png")
    return folder


@pytest.fixture(autouse=True)
def _alike(exact, monkeypatch, tmp_path_factory):
    monkeypatch.setenv("POLYCLINIC_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def words(data, work, *more):
    given = [str(data), "--work", str(work), "--packs", str(work / "packs")]
    given += ["--seeds", "0", "1", "--methods", *METHODS]
    return [*given, "--set", *QUICK, "--out", str(work / "result.json"), *more]


def call(monkeypatch, *given):
    monkeypatch.setattr(sys, "argv", ["eight_sites.py", *map(str, given)])
    eight_sites.main()


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """The folder of a finished comparison; nobody may change it."""
    work = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYCLINIC_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        patch.setenv("POLYCLINIC_DEVICE", "cpu")
        patch.setenv("POLYCLINIC_PRECISION", "float32")
        with fixed_threads(1):  # as in the tests, which compute parts of it again
            call(patch, *words(data, work))
    return work


@pytest.fixture
def result(finished):
    return json.loads((finished / "result.json").read_text())


@pytest.fixture
def study(data, finished):
    return Study(
        configuration(data, (0, 1), METHODS, as_chosen(QUICK), 1), finished, finished / "packs"
    )


@pytest.fixture
def copied(study, finished, tmp_path):
    """The same comparison in a folder that may be changed."""
    shutil.copytree(finished, tmp_path / "work")
    return replace(study, work=tmp_path / "work", packs=tmp_path / "work" / "packs")


@pytest.fixture
def sites(study):
    return prepare(study.config).sites


def test_every_method_is_judged_by_every_protocol_at_every_site(result):
    found = {(row["method"], row["protocol"], row["site"]) for row in result["scores"]}
    assert found == {
        (method, protocol, site)
        for method in (*METHODS, SINGLE) for protocol in JUDGED_BY for site in NAMES
        if (protocol, site) != ("k-nn", "west")
    }  # fmt: skip
    assert all(len(row["per_seed"]) == 2 for row in result["scores"])
    for row in result["scores"]:
        assert row["value"] == pytest.approx(np.mean(row["per_seed"]))
        assert row["low"] <= row["high"]
    assert {row["over"] for row in result["gains"]} == {"fedavg", "local", SINGLE}
    assert {row["sites"] for row in result["comparisons"]} == {2, 3}  # two have neighbours
    assert result["seeds"] == [0, 1]
    assert result["settings"]["sites"] == list(NAMES)
    assert "corpus" not in result["settings"]


def test_what_the_runs_judged_stands_there_as_they_say(study, result):
    ours = {(row["method"], row["protocol"], row["site"]): row for row in result["scores"]}
    gains = {(r["over"], r["protocol"], r["site"]): r for r in result["gains"]}
    for n, seed in enumerate((0, 1)):
        ran = json.loads((study.of(seed).run / "results.json").read_text())
        primary = [row for row in ran["scores"] if row["primary"]]
        assert len(primary) == len(METHODS) * 2 * len(NAMES)
        for row in primary:
            same = ours[row["method"], row["protocol"], row["site"]]
            assert same["per_seed"][n] == row["value"]
        for row in ran["gains"]:
            if row["method"] == "universal":
                same = gains[row["over"], row["protocol"], row["site"]]
                assert same["per_seed"][n] == pytest.approx(row["value"], abs=1e-12)
        about = result["runs"][n]
        assert about["seed"] == seed
        assert about["communication"] == ran["communication"]


def test_a_pack_says_what_the_predictions_say(study, sites):
    for pack in load_packs(study, sites):
        one = study.of(pack.seed)
        assert pack.cells.keys() == set(cells(one, sites))
        for (method, protocol, name), found in pack.cells.items():
            whole = Predictions.load(one.cell(pack.seed, method, name, protocol))
            draws = cluster_weights(whole.clusters, 20, 0)
            metric = primary_metric(whole.task)
            assert np.array_equal(found.clusters, whole.clusters)
            np.testing.assert_array_equal(
                METRICS[metric](found, draws), METRICS[metric](whole, draws)
            )


def test_a_pack_has_no_label_mask_or_patient(study, sites):
    for path in study.packed():
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
        json.loads(str(arrays.pop("about")))
        classes = {name: len(sites[name].classes) for name in NAMES}
        for name, kept in arrays.items():
            site = name.split("/")[-1]
            tested = len(sites[site].split["test"])
            if site == "west":
                assert (kept.shape, kept.dtype) == ((tested, classes[site] - 1, 3), np.int32)
            else:
                assert (kept.shape, kept.dtype) == ((tested, classes[site]), np.uint16)
                assert kept.min() == 1


def test_a_pack_of_other_data_or_settings_is_refused(study, copied, sites):
    north = sites["north"]
    targets = north.targets.copy()
    targets[north.split["test"][0]] ^= 1
    other = {**sites, "north": replace(north, targets=targets)}
    with pytest.raises(RunError, match=r"seed-0.npz: the test split of north is not the one"):
        load_packs(study, other)
    longer = replace(study.config, local=replace(study.config.local, stages=3))
    with pytest.raises(RunError, match=r"seed-0.npz: of other settings than these"):
        load_packs(replace(study, config=longer), sites)


def test_a_seed_of_another_day_joins_those_that_are_there(data, copied, result, monkeypatch):
    shutil.rmtree(copied.work / "seed-0")  # what was computed is gone, its pack is not
    copied.pack(1).unlink()
    call(monkeypatch, *words(data, copied.work), "--seeds", "1")
    again = json.loads((copied.work / "result.json").read_text())
    for key in ("seeds", "scores", "gains", "comparisons", "bars", "sources"):
        assert again[key] == result[key]
    assert not (copied.work / "seed-0").exists()


def test_the_single_source_is_the_best_of_the_others_on_validation(result, study, sites):
    config = study.config
    plan = protocol_plan(config)
    for seed in config.seeds:
        for name, chosen in result["sources"][f"seed-{seed}"].items():
            others = [other for other in NAMES if other != name]
            assert list(chosen["validation"]) == others
            scores = []
            for other in others:
                encoders = study.of(seed).run / f"seed-{seed}" / "local" / "encoders"
                state = load_state(encoders / f"{other}.safetensors")
                given = (config.preset, state, plan, seed, SINGLE)
                scores.append(eight_sites_cells.validate(sites[name], *given))
            assert list(chosen["validation"].values()) == scores
            assert chosen["chosen"] == others[int(np.argmax(scores))]


def test_nothing_is_chosen_with_a_look_at_the_test_split(study, sites):
    plan = protocol_plan(study.config)
    state = state_of(build_encoder("small", 0))
    for site in sites.values():
        spoilt = site.images.copy()
        spoilt[site.split["test"]] = 255 - spoilt[site.split["test"]]
        targets = site.targets.copy()
        targets[site.split["test"]] = 0
        other = replace(site, images=spoilt, targets=targets)
        seen = [
            eight_sites_cells.validate(one, "small", state, plan, 0, SINGLE)
            for one in (site, other)
        ]
        assert seen[0] == seen[1]


def test_the_best_of_equals_is_the_first_and_what_is_undefined_the_last():
    assert eight_sites_cells.best({"a": 0.5, "b": 0.7, "c": 0.7}) == "b"
    assert eight_sites_cells.best({"a": math.nan, "b": 0.1}) == "b"


def test_few_labels_are_the_same_for_every_method(study, sites, monkeypatch):
    drawn = []
    real = eight_sites_cells.few_labels

    def watched(preset, state, site, plan, number, *seed):
        drawn.append(seed)
        return real(preset, state, site, plan, number, *seed)

    monkeypatch.setattr(eight_sites_cells, "few_labels", watched)
    state = state_of(build_encoder("small", 0))
    plan = protocol_plan(study.config)
    said = [
        eight_sites_cells.predict(sites["north"], "5-labels", "small", state, plan, 3, method)
        for method in ("mim", "local")
    ]
    assert drawn == [(3, "north")] * 2
    assert np.array_equal(said[0].scores, said[1].scores)


def cells_of(work):
    found = sorted(path for path in work.rglob("*.npz") if path.parent.name != "packs")
    return {path.relative_to(work): Predictions.load(path) for path in found}


def test_what_was_killed_goes_on_and_ends_alike(
    data, copied, finished, result, monkeypatch, capsys
):
    shutil.rmtree(copied.of(1).work / "judged" / "seed-1" / SINGLE)
    copied.pack(1).unlink()
    save, left = Predictions.save, [3]

    def dies(self, path):
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        save(self, path)

    monkeypatch.setattr(Predictions, "save", dies)
    with pytest.raises(KeyboardInterrupt):
        call(monkeypatch, *words(data, copied.work))
    monkeypatch.setattr(Predictions, "save", save)
    capsys.readouterr()
    call(monkeypatch, *words(data, copied.work))
    printed = capsys.readouterr().out
    assert "judged: seed 0" not in printed
    assert printed.count("judged: seed 1") == printed.count("judged: ") == 17 - 2
    before, after = cells_of(finished), cells_of(copied.work)
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[key].scores, after[key].scores) for key in before)
    assert all(np.array_equal(before[key].counts, after[key].counts) for key in before)
    again = json.loads((copied.work / "result.json").read_text())
    for key in ("scores", "gains", "comparisons", "bars", "sources"):
        assert again[key] == result[key]
    assert len(again["test_touched"]["starts"]) == 3


def test_other_settings_are_refused_where_the_test_was_touched(data, copied, monkeypatch):
    begun = json.loads((copied.packs / TOUCHED).read_text())
    assert begun["digest"] == eight_sites_study.digest(copied.settings())
    assert begun["date"]
    refused = r"eight_sites: .*test-touched.json: the test splits are judged with other settings"
    for more, changed in (
        (["--set", "mim.epochs=2"], r"mim.epochs was 1, is 2"),
        (["--methods", "universal", "mim"], r"methods was .*"),
    ):
        with pytest.raises(SystemExit, match=rf"{refused} since .*\({changed}\); go on with"):
            call(monkeypatch, *words(data, copied.work), *more)
    assert json.loads((copied.packs / TOUCHED).read_text()) == begun
    eight_sites_study.refuse_others(replace(copied, config=replace(copied.config, jobs=2)))


def test_the_record_is_there_before_the_first_judgement(data, tmp_path, monkeypatch):
    def run(config, out, **_):
        assert (tmp_path / "work" / "packs" / TOUCHED).is_file()
        raise RunError("stopped here")

    monkeypatch.setattr(eight_sites, "run_experiment", run)
    with pytest.raises(SystemExit, match=r"^eight_sites: stopped here$"):
        call(monkeypatch, *words(data, tmp_path / "work"))


def test_an_estimate_touches_nothing(data, tmp_path, monkeypatch, capsys):
    call(monkeypatch, *words(data, tmp_path / "work", "--estimate"))
    assert not (tmp_path / "work").exists()
    said = json.loads(capsys.readouterr().out.removeprefix("estimate: "))
    assert said.keys() == {"run_hours", "judging_hours", "hours", "note"}


def test_a_finished_comparison_is_estimated_at_nothing(study, copied):
    said = estimate(study, prepare(study.config))
    assert (said["run_hours"], said["judging_hours"]) == (0, 0)
    copied.pack(1).unlink()  # everything but the pack is there: no more than to write it
    assert eight_sites_estimate._judging(copied.of(1), prepare(study.config)) == 0
    shutil.rmtree(copied.of(1).work)
    assert eight_sites_estimate._run(copied.of(1), prepare(study.config)) > 0


def test_the_universal_encoder_is_kept_after_each_stage(study):
    for seed in (0, 1):
        kept = load_state(study.of(seed).stage(seed, 1))
        own = study.of(seed).run / f"seed-{seed}"
        last, first = (
            own / "universal" / "encoders" / "encoder.safetensors",
            own / "mim" / "start.safetensors",
        )
        final, start = load_state(last), load_state(first)
        assert kept.keys() == final.keys()
        assert any((kept[name] != final[name]).any() for name in kept)
        assert any((kept[name] != start[name]).any() for name in kept)


def test_bytes_until_as_good_as_averaging(study, result, monkeypatch):
    by_stage = {1: 0.6, 2: 1.7}

    def in_run(judge, method, seed):
        return 0.7 if method == "fedavg" else 1.7

    def after(judge, seed, number):
        return by_stage[number]

    (bar,) = (bar for bar in result["bars"] if bar["against"] == "fedavg")
    found = {one["seed"]: one for one in bar["bytes"]["by_seed"]}
    for about in result["runs"]:
        sent = sum(
            row["bytes_up"] + row["bytes_down"]
            for row in about["communication"]
            if row["method"] == "fedavg"
        )
        assert found[about["seed"]]["bytes_of_fedavg"] == pytest.approx(sent, abs=10)
    shares = [one["share"] for one in found.values()]
    assert bar["bytes"]["share"] == (None if None in shares else pytest.approx(np.mean(shares)))
    one = study.of(1)
    with (
        open_run(one.run, one.config, resume=True) as directory,
        Workers(dict.fromkeys(NAMES)) as workers,
    ):
        judge = eight_sites_cells.Judge(one, directory, workers)
        monkeypatch.setattr(eight_sites_bytes, "_in_run", in_run)
        monkeypatch.setattr(eight_sites_bytes, "_after", after)
        late = eight_sites_bytes.communication(judge)
        assert late["share"] == pytest.approx(1, abs=1e-3)
        assert [row["stage"] for row in late["curve"]] == [1, 2]
        by_stage[1] = 0.7
        early = eight_sites_bytes.communication(judge)
        assert early["share"] == pytest.approx(0.5, abs=1e-3)
        by_stage |= {1: 0.1, 2: 0.2}
        never = eight_sites_bytes.communication(judge)
        assert (never["reached"], never["bytes"], never["share"]) == (False, None, None)
    both = eight_sites_bytes.together([late, early])
    assert (both["reached"], both["share"]) == (True, pytest.approx(0.75, abs=1e-3))
    assert eight_sites_bytes.together([late, never])["share"] is None


def test_bytes_are_undecided_without_the_stages(copied):
    one = copied.of(1)
    one.stage(1, 1).unlink()
    with (
        open_run(one.run, one.config, resume=True) as directory,
        Workers(dict.fromkeys(NAMES)) as workers,
    ):
        judge = eight_sites_cells.Judge(one, directory, workers)
        said = eight_sites_bytes.communication(judge)
        assert "seed 1: the encoder after stage 1 was not kept" in said["undecided"]
        assert eight_sites_bytes.together([{"share": 0.1, "reached": True}, said]) == said
        shutil.rmtree(one.run / "seed-1" / "fedavg" / "encoders")
        with pytest.raises(RunError, match=r"no encoders of fedavg with seed 1; start again"):
            judge.encoders(1, "fedavg")


SITES = [f"site{n}" for n in range(8)]


def rows(differences, over, protocol):
    """Rows of `scores` of five seeds, in which the universal encoder is that much better."""
    spread = [-0.02, -0.01, 0.0, 0.01, 0.02]
    for site, difference in zip(SITES, differences, strict=True):
        for method, value in (("universal", 0.8 + difference), (over, 0.8)):
            values = [value + more for more in spread]
            yield {
                "method": method, "protocol": protocol, "site": site, "value": value,
                "per_seed": values,
            }  # fmt: skip


def verdict(over, probe, tuned=None, bytes_=None, seeds=5):
    """The bar against `over`, for differences by linear probe and by fine-tuning."""
    both = dict(zip(eight_sites_summary.BOTH, (probe, tuned or probe), strict=True))
    scored = [row for p, d in both.items() for row in rows(d, over, p)]
    compared = eight_sites_summary.comparisons(scored, range(5))
    gained = [
        {"over": over, "protocol": p, "site": site, "value": difference}
        for p, differences in both.items()
        for site, difference in zip(SITES, differences, strict=True)
    ]
    found = eight_sites_summary.bars(compared, gained, bytes_ or {"share": 0.05}, seeds)
    return {bar["against"]: bar for bar in found}[over]


GOOD = [0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08]


@pytest.mark.parametrize(
    ("over", "worse", "passes"),
    [
        ("mim", 0.01, True), ("mim", -0.0001, False),
        ("local", -0.0019, True), ("local", -0.0021, False),
        ("fedavg", -0.0001, True), ("fedavg", -0.9, False),
        ("centralised", -0.1, True), ("centralised", -0.9, False),
    ],
)  # fmt: skip
def test_each_bar_is_the_protocols(over, worse, passes):
    bar = verdict(over, [worse, *GOOD[1:]])
    assert bar["pass"] is passes
    assert [row["protocol"] for row in bar["measured"]] == ["linear-probe", "fine-tune"]
    for row in bar["measured"]:
        assert row["pass"] is passes
        assert (row["worst_gain"], row["worst_site"]) == (worse, "site0")


def test_p_of_eight_sites_won_is_the_smallest_there_is():
    (probe, _) = verdict("mim", GOOD)["measured"]
    assert probe["p_sites"] == pytest.approx(0.0078125)
    assert probe["sites_won"] == 8


def test_a_bar_must_be_reached_by_probe_and_by_fine_tuning():
    bar = verdict("mim", GOOD, [-0.01, *GOOD[1:]])
    assert bar["pass"] is False
    assert [row["pass"] for row in bar["measured"]] == [True, False]
    assert verdict("local", [-0.001, -0.001, *GOOD[2:]])["pass"] is False  # two lost
    assert verdict("centralised", [-0.005] * 8)["pass"] is True
    assert verdict("centralised", [-0.0051] * 8)["pass"] is False


def test_the_bar_against_averaging_asks_for_a_tenth_of_the_bytes():
    assert verdict("fedavg", GOOD, bytes_={"share": 0.1})["pass"] is True
    assert verdict("fedavg", GOOD, bytes_={"share": 0.11})["pass"] is False
    assert verdict("fedavg", GOOD, bytes_={"share": None})["pass"] is False
    unknown = verdict("fedavg", GOOD, bytes_={"undecided": "not kept"})
    assert (unknown["pass"], unknown["undecided"]) == (None, "not kept")
    lost = verdict("fedavg", [-d for d in GOOD], bytes_={"undecided": "not kept"})
    assert lost["pass"] is False


def test_what_cannot_be_told_is_not_told(result):
    few = verdict("mim", GOOD, seeds=4)
    assert (few["pass"], few["undecided"]) == (None, "expected 8 sites and 5 seeds, got 8, 4")
    assert [row["pass"] for row in few["measured"]] == [None, None]
    bars = {bar["against"]: bar for bar in result["bars"]}
    assert {bar["pass"] for bar in bars.values()} == {None}
    assert bars["mim"]["undecided"] == "mim was not among the methods"
    assert bars["local"]["undecided"] == "expected 8 sites and 5 seeds, got 3, 2"
    assert "leave a site out" in bars["left-out sites, 10 labels a class"]["undecided"]


def test_the_bars_stand_in_the_protocol_word_for_word():
    page = (eight_sites.records.ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    for text in eight_sites_summary.BARS.values():
        assert f"| {text} |" in page


def test_the_tables_and_the_plot(finished, result, monkeypatch, tmp_path, capsys):
    given = ("--table", finished / "result.json", "--forest", tmp_path / "gains.svg")
    call(monkeypatch, *given)
    printed = capsys.readouterr().out
    for protocol in JUDGED_BY:
        assert f"## {eight_sites_tables.NAMES[protocol]}\n" in printed
    (row,) = (
        row for row in result["scores"]
        if (row["method"], row["protocol"], row["site"]) == ("local", "fine-tune", "west")
    )  # fmt: skip
    tuned = printed.split("## Fine-tuning\n")[1]
    (line,) = (
        line for line in tuned.split("###")[0].splitlines() if line.startswith("| Each site alone")
    )
    assert f"{row['value']:.3f}" in line.split("|")[4]
    assert all(line.count("|") >= 3 for line in printed.splitlines() if line.startswith("|"))
    drawn = (tmp_path / "gains.svg").read_text()
    assert drawn.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    assert drawn.count("<circle") == 2 * 2 * 3  # protocols, methods that have a bar, sites


@pytest.mark.parametrize(
    ("more", "match"),
    [(["--set", "mim.epoch=2"], r"unknown key `epoch`; did you mean `epochs`\?"),
     (["--set", "seeds=[1]"], r"expected KEY=VALUE .* got 'seeds=\[1\]'"),
     (["--set", "mim.epochs"], r"expected KEY=VALUE .* got 'mim.epochs'"),
     (["--set", "mim.epochs=0"], r"mim.epochs: expected 1 or more, got 0"),
     (["--set", "preset=base", "preset.x=1"], r"--set: preset is both a setting and a table"),
     (["--methods", "mim"], r"--methods: expected universal among them, got mim"),
     (["--seeds", "0", "0"], r"seeds: expected at least one, each once")],
)  # fmt: skip
def test_options_that_make_no_comparison(data, tmp_path, monkeypatch, more, match):
    with pytest.raises(SystemExit, match=match):
        call(monkeypatch, *words(data, tmp_path / "work"), *more)
    assert not (tmp_path / "work").exists()


def test_settings_are_read_as_toml(data):
    pairs = ("preset=base", "universal.anchor=none", "universal.head_first=false", "mim.epochs=3")
    config = configuration(data, (0,), METHODS, pairs, 1)
    assert (config.preset, config.universal.anchor) == ("base", "none")
    assert config.universal.head_first is False
    assert config.mim.epochs == 3
    with pytest.raises(ConfigError, match=r"expected a folder with sites/ and corpus/"):
        configuration(data / "corpus", (0,), METHODS, (), 1)


def test_what_was_chosen_is_taken_unless_it_is_set_otherwise(data):
    config = configuration(data, (0,), METHODS, as_chosen(["local.stages=3"]), 1)
    assert (config.universal.exchange, config.local.stages) == ("cyclic", 3)


def test_baselines_see_as_many_images_as_the_universal_method():
    """With the eight sites and the corpus of docs/protocol.md: 256 steps a stage in all."""
    settings = {key: int(value) for key, value in CHOSEN.items() if value.isdigit()}
    corpus, start, batch, steps = 3120, MimConfig().epochs, LocalConfig().batch_size, 256
    universal = start * corpus + settings["local.stages"] * steps * batch
    assert 0 <= settings["mim.baseline_epochs"] * corpus - universal < corpus
