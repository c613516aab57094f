"""The directory of a server's run is one: results, report, export and evaluate take it."""

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from polyclinic.cli import main
from polyclinic.config import PrivacyConfig
from polyclinic.deploy import coordinator
from polyclinic.deploy.coordinator import coordinate
from polyclinic.deploy.remote import RemoteSites
from polyclinic.deploy.results import collect
from polyclinic.deploy.server import DEPLOYMENT, RESULT, RUN
from polyclinic.deploy.settings import keep_deployment
from polyclinic.deploy.status import states
from polyclinic.report import results_schema, write_report
from polyclinic.run.directory import open_run
from polyclinic.run.encoder_source import find_encoder
from polyclinic.run.judging import judge_encoder, plan_for
from polyclinic.run.model_card import model_card
from polyclinic.run.traffic import in_words


def over(letters, deployment, run: Path) -> dict:
    sites = RemoteSites(letters, deployment.config, quorum=2, deadline=30.0, tell=lambda _: None)
    coordinate(deployment.config, run, sites)
    results = json.loads((run / "results.json").read_text())
    jsonschema.validate(results, results_schema())
    return results


@pytest.fixture
def told(monkeypatch):
    """What each site says of an encoder: by default two scores."""
    scores = {name: {"linear_probe": 0.75, "fine_tune": 0.875} for name in ("north", "south")}
    scores["west"] = {"linear_probe": float("nan"), "fine_tune": float("nan")}

    def evaluate(self, encoder, names, method, seed, plans):
        for name in names:
            up = 0.125 if method == "universal" else 0.0
            yield name, {key: value + up for key, value in scores[name].items()}

    monkeypatch.setattr(RemoteSites, "evaluate", evaluate)
    return scores


JUDGE = coordinator._judge


@pytest.fixture
def answered(quick, told, monkeypatch):
    """Sites that answer without training, and are judged all the same."""
    monkeypatch.setattr(coordinator, "_judge", JUDGE)


def test_a_servers_run_can_be_reported_exported_and_evaluated(
    letters, deployment, hospitals, tmp_path, capsys
):
    run = tmp_path / "run"
    results = over(letters, deployment, run)
    assert results["deployed"]
    assert results["finished"]
    told = {
        (j["site"], protocol): j["scores"][protocol.replace("-", "_")]
        for r in json.loads((run / "federation.json").read_text())["runs"]
        for j in r["judged"]
        for protocol in ("linear-probe", "fine-tune")
    }
    assert {(s["site"], s["protocol"]): s["value"] for s in results["scores"]} == told
    assert len(told) == 6
    assert all(site["training_images"] > 0 for site in results["sites"])
    assert main(["report", str(run)]) == 0
    assert main(["export", str(run), "--out", str(tmp_path / "encoder")]) == 0
    capsys.readouterr()
    page = (run / "report.html").read_text()
    assert "as the sites told them" in page
    assert "What is found in a site" in page
    card = (tmp_path / "encoder" / "README.md").read_text()
    value = told["north", "fine-tune"]
    assert f"| north | fine-tune | primary | {value:.3f} | - |" in card
    assert "as the sites told them, each by its own primary metric" in card
    assert "The weights carry no formal guarantee of privacy." in card
    found = find_encoder(run)
    plan = plan_for(found, labels_per_class=[2], seeds=1)
    judged = judge_encoder(found, hospitals / "north", plan)
    assert {row["start"] for row in judged["scores"]} == {"trained", "mim", "random"}


def test_a_site_that_keeps_its_scores_is_missing_and_it_says_so(
    answered, letters, deployment, tmp_path
):
    methods = ("universal", "mim")
    deployment = replace(deployment, config=replace(deployment.config, methods=methods))
    results = over(letters, deployment, tmp_path / "run")
    assert {s["site"] for s in results["scores"]} == {"north", "south"}
    west = next(s for s in results["sites"] if s["name"] == "west")
    assert [(j["method"], j["scores"]) for j in west["judged"]] == [
        ("universal", "kept"),
        ("mim", "kept"),
    ]
    gain = next(g for g in results["gains"] if g["protocol"] == "fine-tune")
    assert (gain["method"], gain["over"], gain["value"], gain["low"]) == (
        "universal",
        "mim",
        0.125,
        None,
    )
    assert {(c["over"], c["sites"]) for c in results["comparisons"]} == {("mim", 2)}
    timing = {t["method"]: t for t in results["timing"]}
    assert timing["universal"]["evaluate_seconds"] is None
    assert timing["universal"]["train_seconds"] > 0
    page = write_report(tmp_path / "run").read_text()
    assert "Scores not told: the site keeps them" in page
    card = model_card(results, "universal", 0, "digest")
    assert "Not told, in at least one training: west." in card
    assert "| west | not told | 8, not told, not told | not told | not told |" in card


def test_what_sites_spend_is_a_limit_that_the_server_knows_no_more_of(
    answered, letters, deployment, tmp_path
):
    run = tmp_path / "run"
    assert "privacy_limit" not in over(letters, deployment, run)
    with open_run(run, deployment.config, resume=True) as directory:
        privacy = PrivacyConfig(epsilon=8.0, unit="patient")
        directory.config = replace(directory.config, privacy=privacy, methods=("universal", "mim"))
        results = collect(directory, 12, finished=True)
    jsonschema.validate(results, results_schema())
    assert {s["training_images"] for s in results["sites"]} == {None}
    limit = {"epsilon": 8.0, "delta": 1e-05, "unit": "patient", "methods": ["universal"]}
    assert results["privacy_limit"] == limit
    (run / "results.json").write_text(json.dumps(results))
    assert "epsilon at most 8 at delta 1e-05 for each patient" in write_report(run).read_text()
    card = model_card(results, "universal", 0, "digest")
    assert "epsilon at most 8 at delta 1e-05 for each patient, by the account of the site" in card
    assert "no formal guarantee" not in card
    assert "no formal guarantee" in model_card(results, "mim", 0, "digest")  # no site trains there


def test_after_a_seed_there_are_results_that_are_not_finished(
    answered, letters, deployment, tmp_path, monkeypatch
):
    written, collect = [], coordinator.collect

    def counted(directory, *arguments, finished, **options):
        trained = {r["seed"] for r in directory.records.values() if r["kind"] == "stage"}
        written.append((finished, trained))
        return collect(directory, *arguments, finished=finished, **options)

    monkeypatch.setattr(coordinator, "collect", counted)
    deployment = replace(deployment, config=replace(deployment.config, seeds=(0, 1)))
    letters.sites = {
        name: replace(site, agreement=replace(site.agreement, seeds=(0, 1)))
        for name, site in letters.sites.items()
    }
    over(letters, deployment, tmp_path / "run")
    assert written == [(False, {0}), (True, {0, 1})]


def test_a_sites_ledger_is_held_against_what_the_server_let_in(
    letters, deployment, tmp_path, capsys
):
    over(letters, deployment, tmp_path / "run")
    told, folder = tmp_path / "run" / "federation.json", letters.sites["north"].folder
    key = folder / "keys" / "ledger.key.pub"
    call = ["ledger", "verify", str(folder / "ledger.jsonl"), "--against", str(told)]
    assert main([*call, "--key", str(key)]) == 0
    first, second, scores = (folder / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    for left, gone in (
        (first + second, ["scores"]),
        (first, ["stage 2", "scores"]),
    ):
        (folder / "ledger.jsonl").write_bytes(left)
        assert main(call[:3]) == 0  # the chain alone cannot tell
        capsys.readouterr()
        assert main(call) == 8
        out = capsys.readouterr().out
        assert out.count("the server has a message that is not there") == len(gone)
        assert all(f"(universal, seed 0, {what})" in out for what in gone)
    (folder / "ledger.jsonl").write_bytes(b"")
    assert main(call) == 8
    assert "it has no line, so whose it is is not known" in capsys.readouterr().out
    (folder / "ledger.jsonl").write_bytes(first + second + scores)
    record = json.loads(told.read_text())
    for run in record["runs"]:
        run["stages"][0].pop("messages")
    told.write_text(json.dumps(record))
    assert main(call) == 8
    assert "lacks 'messages'; expected the federation.json" in capsys.readouterr().err
    told.write_text(json.dumps({**record, "sites": ["east"], "runs": []}))
    assert main(call) == 8
    assert "it is of site 'north', and the server knows east" in capsys.readouterr().out
    told.unlink()
    assert main(call) == 8
    assert "expected the federation.json of a server" in capsys.readouterr().err


def test_the_status_says_after_each_stage_how_much_passed(answered, letters, deployment, tmp_path):
    keep_deployment(tmp_path / DEPLOYMENT, deployment)
    seen = []

    def look(waiting):
        if waiting.about.endswith("stage 2"):
            (state,) = states([tmp_path])
            seen.extend(state.lines)
            raise KeyboardInterrupt

    sites = RemoteSites(letters, deployment.config, quorum=2, deadline=30.0, tell=look)
    told = []
    with pytest.raises(KeyboardInterrupt):
        coordinate(deployment.config, tmp_path / RUN, sites, told.append)
    (run,) = json.loads((tmp_path / RUN / RESULT).read_text())["runs"]
    (stage,) = run["stages"]
    passed = in_words(stage["bytes_up"], stage["bytes_down"])
    assert f"universal, seed 0, stage 1: 3 of 3; {passed}" in seen
    assert f"universal, seed 0, stage 1: {passed}" in [progress.message for progress in told]
