"""From a finished run to predictions: export, load, adopt, predict, evaluate, hold out."""

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import polyclinic
from polyclinic.config import Config, config_from_dict, config_to_dict
from polyclinic.errors import ConfigError, DataError, RunError
from polyclinic.models.adopted import load_adopted
from polyclinic.report import results_schema, write_report
from polyclinic.run import predicting
from polyclinic.run.adoption import adopt
from polyclinic.run.cross_validation import AdoptPlan, cross_validate
from polyclinic.run.directory import open_run
from polyclinic.run.encoder_source import find_encoder, mim_start
from polyclinic.run.experiment import run_experiment
from polyclinic.run.exporting import export_run
from polyclinic.run.judging import judge_encoder, plan_for
from polyclinic.run.model_card import model_card
from polyclinic.run.predicting import predict
from polyclinic.run.prediction_inputs import find_inputs

PLAN = AdoptPlan(folds=3, epochs=1, min_steps=1, max_steps=1, head_epochs=1, bootstrap=20)


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch, exact):
    monkeypatch.setenv("POLYCLINIC_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def export(finished_run: Path, tmp_path: Path) -> Path:
    export_run(finished_run, tmp_path / "encoder")
    return tmp_path / "encoder"


@pytest.fixture
def south(hospitals: Path) -> Path:
    return hospitals / "sites" / "south"


@pytest.fixture
def model(export: Path, south: Path, tmp_path: Path) -> Path:
    adopt(find_encoder(export), south, tmp_path / "model", PLAN)
    return tmp_path / "model"


def asked(model: Path, data: Path, out: Path, **options) -> list[dict[str, str]]:
    loaded = load_adopted(model)
    done = predict(loaded, model, find_inputs(data, task=loaded.task), out, **options)
    with done.table.open(newline="") as file:
        return list(csv.DictReader(file))


# Held out.


def test_a_held_out_site_is_judged_and_never_trained_on(finished_run: Path):
    results = json.loads((finished_run / "results.json").read_text())
    jsonschema.validate(results, results_schema())
    assert [s["name"] for s in results["sites"]] == ["north", "west"]
    assert all("south" not in p["present"] for p in results["participation"])
    there = results["held_out"]
    assert [s["name"] for s in there["sites"]] == ["south"]
    cells = {(s["method"], s["labels_per_class"]) for s in there["scores"] if s["primary"]}
    assert cells == {(m, n) for m in ("universal", "mim") for n in (10, 50, None)}
    assert {(g["method"], g["over"]) for g in there["gains"]} == {("universal", "mim")}
    assert not list(finished_run.glob("seed-0/*/encoders/south*"))


def test_the_report_says_which_site_took_no_part(finished_run: Path, tmp_path: Path):
    (tmp_path / "run").mkdir()
    content = (finished_run / "results.json").read_text()
    (tmp_path / "run" / "results.json").write_text(content)
    page = write_report(tmp_path / "run").read_text()
    assert "Sites that took no part" in page
    assert "10 a class" in page
    plain = {k: v for k, v in json.loads(content).items() if k != "held_out"}
    (tmp_path / "run" / "results.json").write_text(json.dumps(plain))
    assert "took no part" not in write_report(tmp_path / "run").read_text()


def test_nothing_else_changes_for_the_sites_that_train(config: Config, tmp_path: Path):
    config = replace(config, methods=("local",))
    run_experiment(config, tmp_path / "all")
    run_experiment(replace(config, hold_out=("south",)), tmp_path / "held")
    one, other = (tmp_path / n / "seed-0/local/encoders/north.safetensors" for n in ("all", "held"))
    assert one.read_bytes() == other.read_bytes()
    assert "held_out" not in json.loads((tmp_path / "all" / "results.json").read_text())


def test_a_finished_run_with_held_out_sites_resumes_without_judging_again(
    config: Config, tmp_path: Path, monkeypatch
):
    config = replace(config, methods=("mim",), hold_out=("south", "west"))
    run_experiment(config, tmp_path / "run")
    from polyclinic.run import held_out

    monkeypatch.setattr(held_out, "few_labels", None)
    monkeypatch.setattr(held_out, "linear_probe", None)
    run_experiment(config, tmp_path / "run", resume=True)


def test_a_run_from_before_the_setting_can_be_resumed(config: Config, tmp_path: Path):
    open_run(tmp_path / "run", config, resume=False).close()
    path = tmp_path / "run" / "config.json"
    stored = json.loads(path.read_text())
    del stored["hold_out"]
    path.write_text(json.dumps(stored))
    with pytest.raises(ConfigError, match=r"another `hold_out`: was None, is \['south'\]"):
        open_run(tmp_path / "run", replace(config, hold_out=("south",)), resume=True)
    open_run(tmp_path / "run", config, resume=True).close()


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["sooth"], r"no site is called 'sooth'; did you mean `south`\?"),
        (["south", "south"], r"`south` stands there twice"),
        (["north", "south", "west"], r"every site is held out; leave one to train on"),
    ],
)
def test_what_cannot_be_held_out_is_said(config: Config, names: list[str], text: str):
    table = {**config_to_dict(config), "hold_out": names}
    with pytest.raises(ConfigError, match=text):
        config_from_dict(table, base=Path())


# Export.


def test_an_export_holds_the_encoder_and_a_filled_card(finished_run: Path, export: Path):
    names = sorted(path.name for path in export.iterdir())
    assert names == ["README.md", "config.json", "encoder.safetensors"]
    trained = load_file(finished_run / "seed-0/universal/encoders/encoder.safetensors")
    loaded = polyclinic.load_encoder(export).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in trained.items())
    card = (export / "README.md").read_text()
    results = json.loads((finished_run / "results.json").read_text())
    score = next(s for s in results["scores"] if s["method"] == "universal" and s["primary"])
    for text in (
        f"| north | {score['protocol']} | auroc | {score['value']:.3f} |",
        "| south | 10 | auroc |",
        "## Limits",
        "## Intended use",
        "## Licence",
        "No patient numbers at north, west",
    ):
        assert text in card


def test_what_cannot_be_exported_is_one_line(finished_run: Path, export: Path, tmp_path: Path):
    for wrong, options, text in (
        (finished_run, {"method": "local"}, r"local keeps one for each site"),
        (finished_run, {"seed": 7}, r"with seed 7; there are: mim seed 0, universal seed 0"),
        (export, {}, r"is exported already"),
        (tmp_path / "gone", {}, r"gone: no such folder"),
    ):
        with pytest.raises(RunError, match=text):
            export_run(wrong, tmp_path / "new", **options)
    with pytest.raises(RunError, match=r"exists already and is not empty"):
        export_run(finished_run, export)
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "metrics.jsonl").touch()
    for path in ("log.txt", "results.json"):  # with any of what a run leaves behind
        with pytest.raises(RunError, match=r"torn: a run without its config\.json, which says"):
            export_run(tmp_path / "torn", tmp_path / "new")
        (tmp_path / "torn" / path).touch()
    assert not list(tmp_path.glob(".new*"))
    assert not (tmp_path / "new").exists()


def test_an_export_that_fails_leaves_nothing(finished_run: Path, tmp_path: Path, monkeypatch):
    from polyclinic.run import exporting

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting, "save_export", full)
    with pytest.raises(RunError, match=r"disk is full"):
        export_run(finished_run, tmp_path / "new")
    assert [p.name for p in tmp_path.iterdir() if "new" in p.name] == []


def test_what_is_passed_on_may_be_read_like_any_other_file(export: Path, model: Path):
    modes = {path: path.stat().st_mode & 0o777 for path in (*export.iterdir(), *model.iterdir())}
    (export / "new").touch()
    assert set(modes.values()) == {(export / "new").stat().st_mode & 0o777}


def test_the_card_begins_with_the_worst_difference(finished_run: Path):
    results = json.loads((finished_run / "results.json").read_text())
    gain = next(g for g in results["gains"] if g["method"] == "universal")
    values = (0.25, None, -0.125, 0.0)
    results["gains"] = [{**gain, "value": v, "site": f"site{n}"} for n, v in enumerate(values)]
    card = model_card(results, "universal", 0, "d")
    table = card.partition("the worst first:")[2]
    assert re.findall(r"\| (site\d) ", table) == ["site2", "site3", "site0", "site1"]


def test_the_card_claims_the_privacy_that_was_paid_for(finished_run: Path):
    results = json.loads((finished_run / "results.json").read_text())
    assert "no formal guarantee of privacy" in model_card(results, "universal", 0, "d")
    spent = {"method": "universal", "seed": 0, "epsilon": 7.5, "delta": 1e-05, "unit": "patient"}
    spent["neighbours"] = "with and without all images of one patient in the training split"
    results["sites"][0]["privacy"] = [spent]
    card = model_card(results, "universal", 0, "d")
    assert "epsilon 7.500 at delta 1e-05 at north" in card
    assert "for each patient (with and without all images of one patient" in card
    assert "no formal guarantee" not in card
    assert "no formal guarantee" in model_card(results, "mim", 0, "d")


# Adopt.


def test_adopting_says_what_it_found(model: Path, south: Path):
    facts = json.loads((model / "model.json").read_text())
    assert facts["images"] == 32
    assert facts["folds"] == 3
    estimate = facts["estimates"]["auroc"]
    assert estimate["low"] <= estimate["value"] <= estimate["high"]
    assert estimate["value"] > 0.8  # the classes differ in brightness
    assert 0 < facts["least_confidence"] < 1
    assert facts["coverage"][0]["share"] == 1
    assert facts["calibration"].keys() == {"before", "after"}
    card = (model / "README.md").read_text()
    for text in ("# A model for south", "## Calibration", "## When it abstains", "## Limits"):
        assert text in card
    assert "Cross-validation by image in 3 parts" in card  # no patient is named
    assert "the share of images of which another class was said" in card


def test_the_same_call_gives_the_same_model(model: Path, export: Path, south: Path, tmp_path: Path):
    adopt(find_encoder(export), south, tmp_path / "again", PLAN)
    for name in ("model.safetensors", "model.json", "README.md"):
        assert (tmp_path / "again" / name).read_bytes() == (model / name).read_bytes()


def test_fine_tuning_moves_the_encoder(export: Path, south: Path, tmp_path: Path):
    plan = replace(PLAN, fine_tune=True)
    model = adopt(find_encoder(export), south, tmp_path / "tuned", plan)
    before = polyclinic.load_encoder(export).state_dict()
    assert any(not torch.equal(v.cpu(), before[k]) for k, v in model.encoder.state_dict().items())


def test_a_format_and_a_task_can_be_declared(export: Path, south: Path, tmp_path: Path):
    site = tmp_path / "graded"
    shutil.copytree(south, site)
    names = sorted(path.relative_to(site).as_posix() for path in site.glob("*/*.png"))
    rows = [f"{name},{number % 5}" for number, name in enumerate(names)]
    (site / "labels.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    found = find_encoder(export)
    told = {}
    for number, options in enumerate(
        ({}, {"task": "regression"}, {"format": "class-folders"}, {"format": "manifest"})
    ):
        told[number] = adopt(found, site, tmp_path / f"model{number}", PLAN, **options)
    assert [told[n].task for n in told] == [*("single-label", "regression"), *2 * ["single-label"]]
    assert [len(told[n].classes) for n in told] == [5, 0, 2, 5]
    with pytest.raises(DataError, match=r"format class-folders is for single-label"):
        adopt(found, site, tmp_path / "no", PLAN, format="class-folders", task="regression")
    with pytest.raises(DataError, match=r"'class-folder' is unknown.*mean `class-folders`"):
        judge_encoder(
            found, site, plan_for(found, labels_per_class=(2,), seeds=1), format="class-folder"
        )


@pytest.mark.parametrize("task", ["single-label", "multi-label", "regression", "segmentation"])
def test_every_task_is_cross_validated(finished_run: Path, make_site, task: str):
    site = make_site(task, n=24)
    site = replace(site, split={**site.split, "train": np.arange(24)})
    judged = cross_validate(find_encoder(finished_run), site, np.arange(24) % 3, PLAN)
    assert len(judged.predictions) == 24
    assert (judged.distances > 0).all()
    assert ((judged.confidence >= 0) & (judged.confidence <= 1)).all()


def test_no_fold_sees_the_patients_that_it_judges(finished_run: Path, make_site, monkeypatch):
    from polyclinic.run import cross_validation

    fit, seen = cross_validation.fit, []

    def watched(found, site, plan, part):
        seen.append((part, set(site.split["train"].tolist())))
        return fit(found, site, plan, part)

    monkeypatch.setattr(cross_validation, "fit", watched)
    folds = np.arange(24) % 3
    cross_validate(find_encoder(finished_run), make_site(n=24), folds, PLAN)
    assert len(seen) == 3
    for part, rows in seen:
        assert rows == set(np.flatnonzero(folds != part).tolist())


def test_a_class_that_a_fold_cannot_learn_is_no_accident(finished_run: Path, make_site):
    site = make_site(n=24)
    targets = np.zeros(24, np.int64)
    targets[0] = 1
    judged = cross_validate(
        find_encoder(finished_run), replace(site, targets=targets), np.arange(24) % 3, PLAN
    )
    assert np.isfinite(judged.predictions.scores).all()
    assert judged.predictions.scores[0, 1] < 0.01  # its fold knew no such class


def test_too_few_images_are_refused(export: Path, south: Path, tmp_path: Path):
    few = tmp_path / "few"
    for label in range(2):
        (few / f"class{label}").mkdir(parents=True)
        for n in range(3):
            source = south / f"class{label}" / f"{n:02d}.png"
            (few / f"class{label}" / f"{n}.png").write_bytes(source.read_bytes())
    with pytest.raises(DataError, match=r"few: 6 images of 6 patients; expected at least 8 of 4"):
        adopt(find_encoder(export), few, tmp_path / "model", PLAN)
    assert not (tmp_path / "model").exists()
    with pytest.raises(ConfigError, match=r"coverage: expected above 0 and at most 1, got 2"):
        adopt(find_encoder(export), few, tmp_path / "model", replace(PLAN, coverage=2))


@pytest.mark.parametrize(
    ("break_it", "text"),
    [
        (lambda m: (m / "model.json").unlink(), r"no model\.json in it; expected a folder"),
        (lambda m: m.rename(m.with_name("old")), r"model: no such folder; .*`polyclinic adopt`"),
        (lambda m: (m / "model.json").write_text("{"), r"not a model that can be read"),
        (lambda m: (m / "model.safetensors").write_bytes(b"x" * 40), r"adopt the encoder again"),
        (lambda m: (m / "head.pt").write_bytes(b""), r"head\.pt: a PyTorch file.*not opened"),
    ],
)
def test_a_broken_model_is_one_line(model: Path, break_it, text: str):
    break_it(model)
    with pytest.raises(RunError, match=text) as caught:
        load_adopted(model)
    assert "\n" not in str(caught.value)


# Predict.


def test_predictions_come_in_the_order_of_the_files(model: Path, south: Path, tmp_path: Path):
    rows = asked(model, south, tmp_path / "out")
    assert [row["file"] for row in rows] == sorted(row["file"] for row in rows)
    assert len(rows) == 32
    right = sum(row["prediction"] == row["file"].split("/")[0] for row in rows)
    assert right > 24
    for row in rows:
        chances = [float(row[f"probability class{k}"]) for k in range(2)]
        assert sum(chances) == pytest.approx(1, abs=1e-5)
        assert float(row["confidence"]) == pytest.approx(max(chances), abs=1e-5)
        assert 0 <= float(row["out of distribution"]) <= 1
        assert (row["abstain"] == "yes") == (row["why"] != "")


def test_a_killed_call_resumes_to_the_same_bytes(
    model: Path, south: Path, tmp_path: Path, monkeypatch
):
    asked(model, south, tmp_path / "whole", batch=4)
    answer, calls = predicting.answer, []

    def killed(*arguments):
        calls.append(1)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return answer(*arguments)

    monkeypatch.setattr(predicting, "answer", killed)
    with pytest.raises(KeyboardInterrupt):
        asked(model, south, tmp_path / "cut", batch=4)
    monkeypatch.setattr(predicting, "answer", answer)
    table = tmp_path / "cut" / "predictions.csv"
    part = table.with_name("predictions.csv.part")
    assert not table.exists()
    assert part.read_text().count("\n") == 13
    with part.open("a") as file:
        file.write("class0/torn,by,the")  # what a kill in the middle of a write leaves
    with pytest.raises(RunError, match=r"was begun by an earlier call; add --resume"):
        asked(model, south, tmp_path / "cut", batch=4)
    with pytest.raises(RunError, match=r"begun with another model, input or --batch"):
        asked(model, south, tmp_path / "cut", batch=5, resume=True)
    asked(model, south, tmp_path / "cut", batch=4, resume=True)
    assert table.read_bytes() == (tmp_path / "whole" / "predictions.csv").read_bytes()
    left = sorted(path.name for path in table.parent.iterdir())
    assert left == [".predictions.csv.lock", "predictions.csv", "predictions.csv.json"]
    asked(model, south, tmp_path / "cut", batch=4, resume=True)  # complete: nothing to do
    with pytest.raises(RunError, match=r"was begun with another model, input or --batch"):
        asked(model, south, tmp_path / "cut", batch=5, resume=True)
    with pytest.raises(RunError, match=r"exists already; add --resume"):
        asked(model, south, tmp_path / "cut", batch=4)


def test_counts_are_of_the_whole_table_also_after_an_interruption(
    model: Path, south: Path, tmp_path: Path, monkeypatch
):
    folder = tmp_path / "new"
    shutil.copytree(south, folder)
    for name in ("class0/00.png", "class1/zz.png"):  # in the first group, and the last
        (folder / name).write_bytes(b"no image")
    (folder / "notes.txt").touch()
    loaded = load_adopted(model)

    def call(out: str, **options) -> predicting.Done:
        return predict(loaded, model, find_inputs(folder), tmp_path / out, batch=4, **options)

    def counts(done: predicting.Done) -> tuple[int, int, int]:
        return done.answered, done.abstained, done.unreadable

    whole = call("whole.csv")
    assert (sum(counts(whole)), whole.unreadable, whole.resumed) == (33, 2, 0)
    assert whole.left_out == {"notes.txt": "not an image"}
    with whole.table.open(newline="") as file:
        said = [row["why"] for row in csv.DictReader(file)]
    assert counts(whole) == (said.count(""), 31 - said.count(""), 2)
    add, groups = predicting.GrowingTable.add, []

    def killed(table, rows):
        if len(groups) == 3:
            raise KeyboardInterrupt
        groups.append(rows)
        add(table, rows)

    monkeypatch.setattr(predicting.GrowingTable, "add", killed)
    with pytest.raises(KeyboardInterrupt):
        call("cut.csv")
    monkeypatch.setattr(predicting.GrowingTable, "add", add)
    done = call("cut.csv", resume=True)
    assert (counts(done), done.resumed) == (counts(whole), 12)
    assert done.table.read_bytes() == whole.table.read_bytes()
    done = call("cut.csv", resume=True)
    assert (counts(done), done.resumed) == (counts(whole), 33)
    done.table.write_text("another,table\n1,2\n")
    with pytest.raises(RunError, match=r"cut\.csv: not the table that was written \('abstain'\);"):
        call("cut.csv", resume=True)


def test_an_unreadable_image_has_a_row_and_a_reason(model: Path, south: Path, tmp_path: Path):
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / "a.png").write_bytes((south / "class0" / "00.png").read_bytes())
    (folder / "b.png").write_bytes(b"no image")
    colour = np.random.default_rng(0).integers(0, 255, (40, 20, 3)).astype(np.uint8)
    Image.fromarray(colour).save(folder / "c.png")
    rows = asked(model, folder, tmp_path / "answers.csv")
    assert [row["file"] for row in rows] == ["a.png", "b.png", "c.png"]
    assert rows[1]["why"] == "unreadable"
    assert "not an image" in rows[1]["problem"]
    assert rows[1]["prediction"] == ""
    assert rows[2]["prediction"]


def test_noise_in_colour_is_unfamiliar(model: Path, tmp_path: Path):
    noise = np.random.default_rng(1).integers(0, 2, (16, 16, 3)).astype(np.uint8) * 255
    Image.fromarray(noise).save(tmp_path / "noise.png")
    (row,) = asked(model, tmp_path / "noise.png", tmp_path / "answers.csv")
    assert (row["abstain"], row["why"]) == ("yes", "unfamiliar")
    assert float(row["out of distribution"]) == 1


def test_masks_lie_beside_the_table_at_the_size_of_the_image(drawing: Path, tmp_path: Path):
    folder = drawing
    new = tmp_path / "new"
    new.mkdir()
    Image.fromarray(np.full((20, 12), 90, np.uint8)).save(new / "tall.png")
    rows = asked(folder, new, tmp_path / "out")
    (path,) = (tmp_path / "out" / row["mask"] for row in rows)
    mask = np.asarray(Image.open(path))
    assert mask.shape == (20, 12)
    assert int(rows[0]["pixels foreground"]) == int((mask == 1).sum())
    with pytest.raises(ConfigError, match=r"expected a folder, because this model draws masks"):
        asked(folder, new, tmp_path / "answers.csv")


def test_answers_may_lie_in_the_folder_of_the_model(model: Path):
    (model / "answers" / "masks").mkdir(parents=True)
    (model / "answers" / "masks" / "a.nii.gz").write_bytes(b"\x1f\x8b")
    load_adopted(model)


def test_two_calls_do_not_write_one_table(model: Path, south: Path, tmp_path: Path, monkeypatch):
    answer, refused = predicting.answer, []

    def meanwhile(*arguments):
        if not refused:
            with pytest.raises(RunError, match=r"another process is writing it") as caught:
                asked(model, south, tmp_path / "out", resume=True)
            refused.append(caught)
        return answer(*arguments)

    monkeypatch.setattr(predicting, "answer", meanwhile)
    assert len(asked(model, south, tmp_path / "out", batch=8)) == 32
    assert refused
    asked(model, south, tmp_path / "out", batch=8, resume=True)  # the lock is free again


def test_patients_are_named_where_they_are_known(model: Path, south: Path, tmp_path: Path):
    folder = tmp_path / "site"
    folder.mkdir()
    lines = ["path,label,patient_id"]
    for n in range(8):
        (folder / f"{n}.png").write_bytes((south / f"class{n % 2}" / f"{n:02d}.png").read_bytes())
        lines += [f"{n}.png,{n % 2},p{n // 2}"] if n < 6 else []
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    rows = asked(model, folder, tmp_path / "out")
    assert [row["file"] for row in rows] == [f"{n}.png" for n in range(8)]
    assert [row["patient"] for row in rows] == ["p0", "p0", "p1", "p1", "p2", "p2", "", ""]


def test_what_cannot_be_predicted_on_is_one_line(model: Path, tmp_path: Path):
    with pytest.raises(DataError, match=r"nowhere: no such file or folder"):
        find_inputs(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no image in it"):
        find_inputs(tmp_path / "empty")
    (tmp_path / "text.txt").write_text("x")
    with pytest.raises(DataError, match=r"text\.txt: not one of .* DICOM; .*\.nii\.gz.*\.npz"):
        find_inputs(tmp_path / "text.txt")


# Evaluate.


def test_an_encoder_is_judged_against_its_starts(finished_run: Path, south: Path):
    found = find_encoder(finished_run)
    plan = plan_for(found, labels_per_class=(2, 5), seeds=2)
    results = judge_encoder(found, south, plan)
    rows = [row for row in results["scores"] if row["primary"]]
    assert {row["start"] for row in rows} == {"trained", "mim", "random"}
    cells = {(row["protocol"], row["labels_per_class"]) for row in rows}
    assert cells == {
        ("linear-probe", 2),
        ("linear-probe", 5),
        ("linear-probe", None),
        ("k-nn", None),
        ("fine-tune", None),
    }
    assert {row["over"] for row in results["gains"]} == {"mim", "random"}
    few = next(row for row in rows if row["labels_per_class"] == 2)
    assert len(few["per_seed"]) == 2
    json.dumps(results, allow_nan=False)


def test_an_export_is_judged_against_chance_alone(export: Path, hospitals: Path):
    found = find_encoder(export)
    assert mim_start(found) is None
    plan = plan_for(found, labels_per_class=(3,), seeds=1)
    plan = replace(
        plan,
        data=replace(plan.data, val_share=0.2, test_share=0.25),
        local=replace(plan.local, min_steps=1, max_steps=1),
        evaluation=replace(plan.evaluation, fine_tune_max_steps=1, bootstrap=20),
    )
    results = judge_encoder(found, hospitals / "sites" / "west", plan)
    assert {row["start"] for row in results["scores"]} == {"trained", "random"}
    assert {row["protocol"] for row in results["scores"]} == {"linear-probe", "fine-tune"}


def test_a_path_that_is_no_encoder_is_said(tmp_path: Path, hospitals: Path):
    with pytest.raises(RunError, match=r"no such folder; expected a run of"):
        find_encoder(tmp_path / "gone")
    neither = r"neither a run nor an export, no config\.json in it; expected a run .* or what `poly"
    for options in ({}, {"seed": 0}):
        with pytest.raises(RunError, match=neither):
            find_encoder(hospitals / "sites", **options)
    (tmp_path / "model.json").touch()
    with pytest.raises(
        RunError, match=r"a model that `polyclinic adopt` wrote, which `polyclinic p"
    ):
        find_encoder(tmp_path)
