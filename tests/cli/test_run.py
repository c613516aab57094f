"""`polyclinic run` and `polyclinic report`."""

import json

import pytest

from polyclinic.cli import main
from polyclinic.cli.summary import summarise, summary_text
from polyclinic.config import METHODS, load_config, quick


def output_lines(capsys) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_run_prints_its_summary_and_where_the_report_is(fake, config_file, capsys):
    assert main(["run", str(config_file), "--out", "r"]) == 0
    captured = capsys.readouterr()
    assert captured.out == (
        "method            linear probe  fine tune\n"
        "Universal (ours)         0.625      0.750\n"
        "Local only               0.375          -\n"
        "mean over 2 sites and 1 seed of each site's own metric (AUROC, Dice or R2)\n"
        "\n"
        "gain                              protocol        mean  worst site   there  "
        "95 % interval\n"
        "Universal (ours) over Local only  linear probe  +0.125  b           -0.250  "
        "-0.375 to -0.125\n"
        "\n"
        "report: r/report.html\n"
    )
    assert captured.err.splitlines()[:2] == [
        "[ 50%] universal, seed 0, stage 1/2: training at a",
        "site a is absent from this stage",
    ]
    (config, out, resume) = fake.runs[0]
    assert config == load_config(config_file)
    assert (str(out), resume) == ("r", False)


def test_options_replace_what_the_file_says(fake, config_file):
    options = ["--seed", "5", "--seed", "4", "--seed", "5", "--jobs", "3", "--quiet"]
    assert main(["run", str(config_file), *options, "--method", "mim", "--method", "fedavg"]) == 0
    config = fake.runs[0][0]
    assert config.seeds == (5, 4)
    assert config.jobs == 3
    assert config.methods == ("fedavg", "mim")  # in the order of METHODS, whatever was typed
    assert [m for m in METHODS if m in config.methods] == list(config.methods)


def test_a_site_can_be_held_out(fake, config_file, capsys):
    assert main(["run", str(config_file), "--hold-out", "b", "--hold-out", "b", "--quiet"]) == 0
    assert fake.runs[0][0].hold_out == ("b",)
    assert main(["run", str(config_file), "--hold-out", "bb", "--out", "r"]) == 2
    assert "no site is called 'bb'; did you mean `b`?" in capsys.readouterr().err
    assert main(["run", str(config_file), "--hold-out", "b", "--out", "q", "--dry-run"]) == 0
    assert "held out, not trained on: b" in capsys.readouterr().out


def test_the_line_that_continues_a_run_names_what_is_held_out(fake, config_file, capsys):
    fake.fails = KeyboardInterrupt()
    assert main(["run", str(config_file), "--hold-out", "b", "--out", "r", "--quiet"]) == 130
    assert "--out r --hold-out b" in capsys.readouterr().err


@pytest.mark.parametrize("in_file", [True, False])
def test_quick_is_applied_whether_asked_for_here_or_in_the_file(fake, config_file, in_file):
    plain = load_config(config_file)
    if in_file:
        config_file.write_text(f"quick = true\n{config_file.read_text()}")
    assert main(["run", str(config_file), "--quiet", *([] if in_file else ["--quick"])]) == 0
    assert fake.runs[0][0] == quick(plain)


def test_the_run_directory_is_named_after_the_configuration_and_the_time(fake, config_file):
    assert main(["run", str(config_file), "--quiet"]) == 0
    out = fake.runs[0][1]
    assert out.parent.name == "runs"
    assert out.match("fake-[0-9]*-[0-9]*")


def test_resume_takes_the_newest_run_of_that_name(fake, config_file, tmp_path):
    for name in (
        "fake-20250101-000000",
        "fake-20260101-000000",
        "fake-2-20270101-000000",  # another federation, called fake-2
        "fake-notes",
    ):
        (tmp_path / "runs" / name).mkdir(parents=True)
    assert main(["run", str(config_file), "--quiet", "--resume"]) == 0
    assert fake.runs[0][1].name == "fake-20260101-000000"
    assert fake.runs[0][2] is True


def test_resume_without_a_run_is_an_error(fake, config_file, capsys):
    assert main(["run", str(config_file), "--resume"]) == 5
    assert "runs: no run of `fake` in this folder to resume" in capsys.readouterr().err


@pytest.mark.parametrize("as_file", [True, False])
def test_a_run_directory_is_not_overwritten(fake, config_file, tmp_path, capsys, as_file):
    (tmp_path / "r").mkdir()
    out = tmp_path / "r" / "x" if as_file else tmp_path / "r"
    (tmp_path / "r" / "x").touch()
    assert main(["run", str(config_file), "--out", str(out)]) == 5
    assert "exists already; add --resume to continue it" in capsys.readouterr().err
    assert fake.runs == []


@pytest.mark.parametrize("resume", [[], ["--resume"]], ids=str)
def test_a_start_that_failed_early_can_be_repeated(fake, config_file, tmp_path, resume):
    (tmp_path / "r").mkdir()
    for name in (".lock", "config.json.part"):
        (tmp_path / "r" / name).touch()
    assert main(["run", str(config_file), "--out", "r", "--quiet", *resume]) == 0
    assert len(fake.runs) == 1


def test_quiet_prints_nothing(fake, config_file, capsys):
    assert main(["run", str(config_file), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_json_is_one_event_a_line_and_the_result_last(fake, config_file, capsys):
    assert main(["run", str(config_file), "--out", "r", "--json"]) == 0
    events = output_lines(capsys)
    assert events[0] == {
        "event": "progress",
        "phase": "train",
        "done": 0.5,
        "method": "universal",
        "seed": 0,
        "stage": 1,
        "stages": 2,
        "site": "a",
    }
    assert events[1]["message"] == "site a is absent from this stage"
    last = events[-1]
    assert (last["event"], last["report"]) == ("result", "r/report.html")
    assert last["summary"]["means"]["universal"] == {"linear-probe": 0.625, "fine-tune": 0.75}
    assert last["summary"]["gains"] == [
        {
            "method": "universal",
            "over": "local",
            "protocol": "linear-probe",
            "mean": 0.125,
            "worst_site": "b",
            "worst": -0.25,
            "worst_low": -0.375,
            "worst_high": -0.125,
        }
    ]


def test_the_summary_is_about_the_method_that_leads(fake, config_file, tmp_path):
    main(["run", str(config_file), "--out", "r", "--quiet"])
    found = json.loads((tmp_path / "r" / "results.json").read_text())
    rename = {"universal": "fedavg"}
    for row in (*found["scores"], *found["gains"]):
        row["method"] = rename.get(row["method"], row["method"])
    found["methods"] = [
        {"name": "local", "title": "Local only", "summary": ""},
        {"name": "fedavg", "title": "FedAvg", "summary": ""},
    ]
    assert {gain["method"] for gain in summarise(found)["gains"]} == {"fedavg"}
    assert "FedAvg over Local only" in summary_text(found)


def test_a_dry_run_shows_the_plan_and_writes_nothing(fake, config_file, tmp_path, capsys):
    before = sorted(tmp_path.rglob("*"))
    assert main(["run", str(config_file), "--dry-run", "--out", "r"]) == 0
    text = capsys.readouterr().out
    assert "methods: universal, fedavg, fedprox, local, mim, centralised; seeds: 0, 1, 2" in text
    assert "the run would be written to r" in text
    assert main(["run", str(config_file), "--dry-run", "--out", "r", "--json"]) == 0
    (plan,) = output_lines(capsys)
    assert [site["name"] for site in plan["sites"]] == ["a", "b"]
    assert sorted(tmp_path.rglob("*")) == before
    assert fake.runs == []


def test_a_dry_run_finds_a_site_that_is_missing(fake, config_file, tmp_path, capsys):
    (tmp_path / "sites" / "b" / "data").unlink()
    assert main(["run", str(config_file), "--dry-run"]) == 3
    assert "no format fits" in capsys.readouterr().err


def test_report_takes_a_run_or_its_results(fake, config_file, tmp_path, capsys):
    assert main(["run", str(config_file), "--out", "r", "--quiet"]) == 0
    fake.reports.clear()
    assert main(["report", "r"]) == 0
    assert main(["report", "r/results.json"]) == 0
    assert capsys.readouterr().out == "report: r/report.html\n" * 2
    assert main(["report", "r", "--json"]) == 0
    assert output_lines(capsys) == [{"event": "report", "run": "r", "report": "r/report.html"}]
    assert [str(run) for run in fake.reports] == ["r"] * 3


def test_report_wants_a_run_directory(fake, tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 5
    assert "no results.json in this folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{", "results.json: not valid JSON"),
        ("[]", "expected schema 'polyclinic.results/1', got None"),
        ('{"schema": "other/2"}', "expected schema 'polyclinic.results/1', got 'other/2'"),
    ],
)
def test_results_of_another_kind_are_refused(fake, config_file, monkeypatch, capsys, content, text):
    def spoilt(run):
        (run / "results.json").write_text(content)
        return run / "report.html"

    monkeypatch.setattr("polyclinic.cli.engine.write_report", spoilt)
    assert main(["run", str(config_file), "--out", "r"]) == 5
    assert text in capsys.readouterr().err
