"""What of a run's directory goes into results.json."""

import dataclasses
import json
from pathlib import Path

import jsonschema
import pytest

from polyclinic.config import Config
from polyclinic.errors import DataError
from polyclinic.federation import exchange
from polyclinic.report import results_schema
from polyclinic.run import experiment
from polyclinic.run.experiment import run_experiment
from polyclinic.run.roles import lead_method


@pytest.mark.parametrize(
    ("methods", "lead"),
    [
        (["universal", "fedavg", "local"], "universal"),
        (["local", "centralised", "fedprox"], "fedprox"),
        (["local", "mim", "centralised"], None),
    ],
)
def test_the_lead_is_the_first_that_is_no_baseline(methods: list[str], lead: str | None):
    assert lead_method(methods) == lead


def test_the_method_that_leads_is_compared_and_shown(config: Config, tmp_path: Path):
    config = dataclasses.replace(config, methods=("local", "fedavg"))
    content = json.loads(run_experiment(config, tmp_path / "run").read_text())
    jsonschema.validate(content, results_schema())
    pairs = {(c["method"], c["over"], c["protocol"]) for c in content["comparisons"]}
    assert pairs == {("fedavg", "local", "linear-probe"), ("fedavg", "local", "fine-tune")}
    assert {e["method"] for e in content["examples"]} == {"fedavg"}


def test_what_is_no_longer_configured_is_left_out(config: Config, tmp_path: Path):
    config = dataclasses.replace(config, methods=("fedavg", "local"), seeds=(0, 1))
    run_experiment(config, tmp_path / "run")
    fewer = dataclasses.replace(config, methods=("local",), seeds=(1,))
    content = json.loads(run_experiment(fewer, tmp_path / "run", resume=True).read_text())
    for kind in ("communication", "participation", "curves", "timing", "scores"):
        assert {row["method"] for row in content[kind]} == {"local"}, kind
    assert {row["seed"] for row in content["participation"] + content["curves"]} == {1}
    assert content["examples"] == []


def test_results_are_written_once_after_each_seed(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    collect, calls = experiment.collect, []

    def counted(*arguments, **options):
        calls.append((options.get("finished", False), arguments[3]))
        return collect(*arguments, **options)

    monkeypatch.setattr(experiment, "collect", counted)
    config = dataclasses.replace(config, methods=("mim",), seeds=(0, 1))
    run_experiment(config, tmp_path / "run")
    assert [finished for finished, _ in calls] == [False, True]
    assert calls[0][1] == calls[1][1]  # the findings about the corpus


def test_times_are_of_the_clock_however_many_sites_work_at_once(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    now = [0.0]
    judge = experiment.judge_site

    def together(workers, work, tasks):
        found = [(name, judge(workers.sites[name], *arguments)) for name, arguments in tasks]
        now[0] += 10.0  # all sites were judged in these ten seconds
        yield from found

    config = dataclasses.replace(config, methods=("mim",))
    monkeypatch.setattr(experiment.Workers, "map", together)
    monkeypatch.setattr(experiment.time, "perf_counter", lambda: now[0])
    content = json.loads(run_experiment(config, tmp_path / "run").read_text())
    assert content["timing"][0]["evaluate_seconds"] == 20.0  # two protocols


def test_who_took_part_is_said_in_words(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    train_stage = exchange.train_stage

    def stage(site, *given):
        if site.name == "west" and given[-2] == 1:  # in the second stage
            raise DataError("the disk is gone")
        return train_stage(site, *given)

    monkeypatch.setattr(exchange, "train_stage", stage)
    config = dataclasses.replace(config, methods=("fedavg",))
    content = json.loads(run_experiment(config, tmp_path / "run").read_text())
    jsonschema.validate(content, results_schema())
    assert [p["took_part"] for p in content["participation"]] == ["3 of 3", "2 of 3: west absent"]
