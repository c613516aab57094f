"""The evaluation as a run: what it leaves, that it is repeatable, resumable, and refuses."""

import json
from dataclasses import replace

import pytest
import torch

from polyclinic.data.phantoms import brain
from polyclinic.errors import ConfigError, DataError, RunError
from polyclinic.inpaint.cases import MADE_UP
from polyclinic.inpaint.painter import save_painter
from polyclinic.inpaint.painting import Settings
from polyclinic.inpaint.segmenter import SegmentPlan
from polyclinic.inpaint.training import PaintPlan
from polyclinic.report.painting import write_painting_report
from polyclinic.run.painter import PainterRun, train_painter
from polyclinic.run.painter_evaluation import evaluation as module
from polyclinic.run.painter_evaluation import intervals
from polyclinic.run.painter_evaluation.evaluation import Evaluation, evaluate_painter
from polyclinic.run.painter_evaluation.inputs import read_inputs

pytestmark = pytest.mark.usefixtures("exact", "tiny")

PLAN = SegmentPlan(features=(8,) * 6, steps=1, batch_size=2)


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    """Intervals are tested elsewhere."""
    monkeypatch.setattr(intervals, "RESAMPLES", 20)


@pytest.fixture
def run(folder, tmp_path):
    """A run of `inpaint train` that took one step."""
    plan = PaintPlan(steps=1, batch_size=2, warm_up=1)
    config = PainterRun((folder,), val_share=0.2, test_share=0.4, plan=plan)
    train_painter(config, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def config(run):
    return Evaluation(run, steps=1, max_slices=1, samples=2, segmenter_plan=PLAN)


def test_what_an_evaluation_leaves(config, run, tmp_path):
    told = []
    path = evaluate_painter(config, tmp_path / "out", tell=told.append)
    out = tmp_path / "out"
    assert path == out / "results.json"
    results = json.loads(path.read_text())
    assert results["schema"] == "polyclinic.painting/1"
    assert [v["name"] for v in results["variants"]] == [
        "flow, 1 steps",
        "flow, mean",
        "biharmonic",
        "telea",
    ]
    held_out = set(json.loads((run / "splits.json").read_text())["test"])
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    rows = [row for record in records for row in record["rows"]]
    assert {row["patient"] for row in rows} == held_out
    assert {row["kind"] for row in rows} == {"infill", "volume", "tumour"}
    assert results["edits"] == {
        kind: len({row["edit"] for row in rows if row["kind"] == kind}) for kind in results["edits"]
    }
    assert all(row["changed_outside"] == 0 for row in rows if row["variant"] != "real")
    assert all(results["tables"].values())
    assert (out / "segmenter.safetensors").is_file()
    for picture in results["pictures"]:
        assert all((out / tile["image"]).is_file() for tile in picture["tiles"])
    assert told[-1].done == pytest.approx(1.0)
    page = write_painting_report(out).read_text()
    assert "Is a painted component what was asked for?" in page


class StoppedError(Exception):
    pass


def rows_without_time(rows, *_):
    """In the place of tables: they are made of rows alone."""
    return {"rows": [{k: v for k, v in row.items() if k != "seconds"} for row in rows]}


def test_an_interrupted_evaluation_ends_with_the_same_rows(config, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "tables", rows_without_time)
    whole = json.loads(evaluate_painter(config, tmp_path / "whole").read_text())
    rows_of, calls = module.rows_of, []

    def stopping(*arguments):
        if len(calls) == 3:
            raise StoppedError
        calls.append(1)
        return rows_of(*arguments)

    monkeypatch.setattr(module, "rows_of", stopping)
    with pytest.raises(StoppedError):
        evaluate_painter(config, tmp_path / "cut")
    assert not (tmp_path / "cut" / "results.json").exists()
    monkeypatch.setattr(module, "rows_of", rows_of)
    again = json.loads(evaluate_painter(config, tmp_path / "cut", resume=True).read_text())
    assert again["tables"] == whole["tables"]
    assert again["pictures"] == whole["pictures"]


def test_rows_of_other_variants_are_refused(config, tmp_path):
    from polyclinic.run.painter_evaluation.variants import baselines

    inputs = read_inputs(config.painter, (), "auto", "test")
    biharmonic, telea = baselines()
    config = replace(config, samples=1)
    module.evaluate_variants(config, inputs, [telea], tmp_path / "out")
    with pytest.raises(RunError, match=r"painted by biharmonic, telea: painter, settings or weig"):
        module.evaluate_variants(config, inputs, [biharmonic], tmp_path / "out", resume=True)
    with pytest.raises(ConfigError, match=r"names that differ, got telea, telea"):
        module.evaluate_variants(config, inputs, [telea, telea], tmp_path / "new")


def test_an_evaluation_goes_on_with_what_it_was_begun_with(
    config, run, painter, tmp_path, monkeypatch
):
    config = replace(config, samples=1, max_slices=1)
    out = tmp_path / "out"
    evaluate_painter(config, out)
    metrics, judged = out / "metrics.jsonl", out / "judged.json"
    before = metrics.read_bytes()
    kept = json.loads(judged.read_text())
    assert kept["variants"]["flow, 1 steps"]["settings"]["guidance"] == Settings().guidance

    one = painter()
    with torch.no_grad():
        next(one.network.parameters()).add_(1)
    save_painter(one, run / "painter.safetensors")
    with pytest.raises(RunError, match=r"painted by flow, 1 steps, flow, mean: painter, settings"):
        evaluate_painter(config, out, resume=True)
    judged.unlink()
    records = [json.loads(line) for line in before.splitlines()]
    records[0]["edit"]["seed"] += 1
    metrics.write_text("".join(json.dumps(record) + "\n" for record in records))
    with pytest.raises(RunError, match=r"edit-00000 was planned from other data, or painted by"):
        evaluate_painter(config, out, resume=True)


def test_weights_name_the_patients_that_they_are_judged_on(run, folder, tmp_path):
    weights = run / "painter.safetensors"
    splits = json.loads((run / "splits.json").read_text())
    for split in ("val", "test"):
        inputs = read_inputs(weights, (folder,), "auto", split)
        assert [case.key for case in inputs.held_out] == splits[split]
        assert [case.key for case in inputs.training] == splits["train"]
    others = tmp_path / "others"
    brain.write_cases(others, brain.generate(3, seed=5, size=48, slices=3))
    for case in others.iterdir():
        case.rename(others / f"other-{case.name}")
    with pytest.raises(
        DataError, match=r"others: 0 cases of the test split of .* cases such as PH"
    ):
        read_inputs(weights, (others,), "auto", "test")


def test_weights_need_data_and_say_that_the_split_is_made_anew(
    folder, painter, config, tmp_path, monkeypatch
):
    weights = tmp_path / "painter.safetensors"
    save_painter(painter(), weights)
    config = replace(config, painter=weights)
    with pytest.raises(ConfigError, match=r"weights do not say where their patients are"):
        evaluate_painter(config, tmp_path / "out")
    told = []
    monkeypatch.setattr(module, "evaluate_variants", lambda *_, **__: tmp_path)
    evaluate_painter(replace(config, data=(folder,)), tmp_path / "out", tell=told.append)
    assert any("a run with default settings" in progress.message for progress in told)


def test_wrong_inputs_are_refused(config, run, folder, tmp_path):
    with pytest.raises(ConfigError, match=r"gone: no such file or folder"):
        evaluate_painter(replace(config, painter=tmp_path / "gone"), tmp_path / "out")
    with pytest.raises(ConfigError, match=r"at least 1 step and 1 sample, got 1 and 0"):
        replace(config, samples=0)
    splits = json.loads((run / "splits.json").read_text())
    (run / "splits.json").write_text(json.dumps({**splits, "test": ["nobody"]}))
    with pytest.raises(
        DataError,
        match=r"0 cases of the test split of .* and \d of its training; .* such as nobody",
    ):
        evaluate_painter(config, tmp_path / "out")
    (run / "splits.json").write_text("{}")
    with pytest.raises(RunError, match=r"expected a list of cases for each of train, val, test"):
        evaluate_painter(config, tmp_path / "out")
    (run / "painter.safetensors").unlink()
    with pytest.raises(RunError, match=r"no painter.safetensors in this folder"):
        evaluate_painter(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_made_up_heads_are_judged_by_themselves(tiny, folder, tmp_path):
    plan = PaintPlan(steps=1, batch_size=2)
    run = tmp_path / "run"
    train_painter(PainterRun((folder,), phantoms=8, test_share=0.4, plan=plan), run)
    real = read_inputs(run, (), "auto", "test")
    made_up = read_inputs(run, (), "auto", "test", phantoms=True)
    assert not any(case.key.startswith(MADE_UP) for case in real.held_out + real.training)
    assert all(case.key.startswith(MADE_UP) for case in made_up.held_out + made_up.training)
    kept = json.loads((run / "splits.json").read_text())["test"]
    assert sorted(kept) == sorted(c.key for c in [*real.held_out, *made_up.held_out])
    with pytest.raises(ConfigError, match=r"run directory of a painter alone, got .*1 folders"):
        read_inputs(run, (folder,), "auto", "test", phantoms=True)

    alone = tmp_path / "alone"
    train_painter(PainterRun((), phantoms=4, plan=plan), alone)
    assert len(read_inputs(alone, (), "auto", "val").held_out) >= 1


def test_a_run_without_made_up_heads_says_so(run):
    with pytest.raises(ConfigError, match=r"was trained on no made-up heads; .*without --phantoms"):
        read_inputs(run, (), "auto", "test", phantoms=True)
