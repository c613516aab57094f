"""`polyclinic export`, `evaluate`, `adopt` and `predict`, without training anything."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from polyclinic.cli import engine, main


@dataclass
class Model:
    facts: dict[str, Any]
    least_confidence: float = 0.5
    task: str = "single-label"
    classes: tuple[str, ...] = ("a", "b")


@dataclass
class Done:
    table: Path
    masks: Path | None = None
    images: int = 3
    answered: int = 1
    abstained: int = 1
    unreadable: int = 1
    resumed: int = 0
    left_out: dict[str, str] = field(default_factory=dict)


@dataclass
class Calls:
    asked: list[tuple[tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)
    gives: Any = None

    def __call__(self, *arguments, tell, **options):
        assert callable(tell)
        self.asked.append((arguments, options))
        return self.gives


@pytest.fixture
def calls(monkeypatch, tmp_path) -> Calls:
    monkeypatch.chdir(tmp_path)
    calls = Calls()
    for name in ("export_run", "judge_encoder", "adopt", "predict"):
        monkeypatch.setattr(engine, name, calls)
    return calls


def scores(start: str, value: float | None) -> dict[str, Any]:
    about = {"protocol": "linear-probe", "labels_per_class": 5, "metric": "auroc"}
    return {"start": start, **about, "primary": True, "value": value, "low": 0.5, "high": 0.75}


EVALUATION = {
    "data": {"name": "far", "task": "single-label", "images": 40, "split": {"test": 8}},
    "metric": "auroc",
    "scores": [scores("trained", 0.625), scores("random", None)],
    "gains": [
        {
            "over": "random",
            "protocol": "k-nn",
            "labels_per_class": None,
            "metric": "auroc",
            "value": 0.125,
            "low": -0.25,
            "high": 0.5,
        }
    ],
}
FACTS = {
    "format": "npz",
    "patients": 12,
    "images": 32,
    "folds": 5,
    "metric": "auroc",
    "estimates": {"auroc": {"value": 0.875, "low": 0.75, "high": 1.0}},
    "coverage": [{"share": 0.9, "confidence": 0.5, "error": 0.125}],
}


def test_export_prints_its_files(calls, capsys):
    calls.gives = (Path("e/config.json"), Path("e/encoder.safetensors"))
    assert main(["export", "runs/a", "--out", "e", "--onnx", "--seed", "2"]) == 0
    assert capsys.readouterr().out == "e/config.json\ne/encoder.safetensors\n"
    options = {"method": None, "seed": 2, "onnx": True}
    assert calls.asked == [((Path("runs/a"), Path("e")), options)]


def test_evaluate_prints_tables_and_writes_what_it_found(calls, capsys):
    calls.gives = EVALUATION
    options = ["--on", "far", "--labels-per-class", "5, 10,5", "--out", "judged"]
    assert main(["evaluate", "run", *options]) == 0
    assert capsys.readouterr().out == (
        "far: single-label, 40 images, auroc, 8 test images\n"
        "\n"
        "judged by                     trained                 random\n"
        "linear probe, 5 labels a class  0.625 (0.500 to 0.750)  - (0.500 to 0.750)\n"
        "\n"
        "gain         judged by            value  95 % interval\n"
        "over random  nearest neighbours  +0.125  -0.250 to +0.500\n"
        "\n"
        "written: judged/evaluation.json\n"
    ).replace("judged by                     trained", "judged by                       trained")
    assert calls.asked[0][1]["labels_per_class"] == (5, 10)
    assert (calls.asked[0][1]["format"], calls.asked[0][1]["task"]) == ("auto", "auto")
    assert json.loads(Path("judged/evaluation.json").read_text()) == EVALUATION


def test_labels_that_are_no_numbers_are_refused(calls, capsys):
    assert main(["evaluate", "run", "--on", "far", "--labels-per-class", "5,few"]) == 2
    assert "expected whole numbers above 0, such as 5,10,50; got '5,few'" in capsys.readouterr().err


def test_adopt_says_how_good_it_is(calls, capsys):
    calls.gives = Model(FACTS)
    assert main(["adopt", "encoder", "far", "--out", "m", "--fine-tune", "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert main(["adopt", "encoder", "far", "--out", "m"]) == 0
    assert capsys.readouterr().out == (
        "read as npz, single-label: a, b\n"
        "32 images, cross-validated by patient in 5 parts: "
        "auroc 0.875 (95 % interval 0.750 to 1.000)\n"
        "the surest 90 %: error 0.125\n"
        "model: m\n"
        "predict with: polyclinic predict m FOLDER\n"
    )
    assert [options["fine_tune"] for _, options in calls.asked] == [True, False]


def test_adopt_says_what_it_took_the_folder_for(calls, capsys):
    nameless = {
        **FACTS,
        "patients": None,
        "metric": "dice",
        "estimates": {"dice": {"value": None, "low": None}},
    }
    calls.gives = Model(nameless, task="segmentation", classes=tuple("abcdefghijk"))
    assert main(["adopt", "encoder", "far", "--out", "m"]) == 0
    assert capsys.readouterr().out.splitlines()[:3] == [
        "read as npz, segmentation: a, b, c, d, e, f, g, h and 3 more",
        "32 images, cross-validated by image, as no patient is named, in 5 parts: dice undefined",
        "the surest 90 %: 1 - Dice 0.125",
    ]
    calls.gives = Model(FACTS, classes=())
    assert main(["adopt", "encoder", "far", "--out", "m"]) == 0
    assert "read as npz, single-label: a number" in capsys.readouterr().out


def test_a_model_is_named_after_the_data_and_the_time(calls):
    calls.gives = Model(FACTS)
    assert main(["adopt", "encoder", "far", "--quiet"]) == 0
    out = calls.asked[0][0][2]
    assert out.parent == Path("models")
    assert out.match("far-[0-9]*-[0-9]*")


def test_predict_counts_and_names_its_table(calls, capsys):
    calls.gives = Done(Path("predictions/predictions.csv"), Path("predictions/masks"))
    assert main(["predict", "m", "new"]) == 0
    assert capsys.readouterr().out == (
        "1 answered, 1 abstained, 1 unreadable\n"
        "table: predictions/predictions.csv\n"
        "masks: predictions/masks\n"
    )
    assert main(["predict", "m", "new", "--json"]) == 0
    event = json.loads(capsys.readouterr().out)
    assert (event["event"], event["images"], event["unreadable"]) == ("predict", 3, 1)


def test_predict_says_what_it_leaves_out(calls, capsys):
    left_out = {f"{n}.txt": "not an image" for n in range(5)}
    calls.gives = Done(Path("t.csv"), left_out=left_out)
    assert main(["predict", "m", "new"]) == 0
    assert capsys.readouterr().err == (
        "5 files left out: 0.txt (not an image), 1.txt (not an image), 2.txt (not an image), "
        "and 2 more; --json has all\n"
    )
    assert main(["predict", "m", "new", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(["predict", "m", "new", "--json"]) == 0
    shown = capsys.readouterr()
    event = json.loads(shown.out)
    assert (shown.err, event["left_out"], event["left_out_files"]) == ("", 5, left_out)


def test_predict_says_that_it_went_on(calls, capsys):
    for resumed, line in (
        (3, "already complete: nothing was left to predict"),
        (2, "continued after 2 of 3 rows"),
    ):
        calls.gives = Done(Path("t.csv"), resumed=resumed)
        assert main(["predict", "m", "new", "--resume"]) == 0
        assert capsys.readouterr().out.splitlines()[:2] == [
            line,
            "1 answered, 1 abstained, 1 unreadable",
        ]
        assert main(["predict", "m", "new", "--resume", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["resumed"] == resumed


def test_an_interruption_says_how_to_go_on(calls, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "predict", interrupted)
    assert main(["predict", "m", "new images", "--out", "o"]) == 130
    assert "predict m 'new images' --out o --batch 64 --resume" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["evaluate", "run", "--on", "far"], ["adopt", "run", "far"]])
def test_a_format_and_a_task_can_be_declared(calls, capsys, command):
    calls.gives = EVALUATION if command[0] == "evaluate" else Model(FACTS)
    declared = ["--format", "manifest", "--task", "regression"]
    assert main([*command, *declared, "--quiet"]) == 0
    asked = calls.asked[0][1]
    assert (asked["format"], asked["task"]) == ("manifest", "regression")
    assert main([*command, "--task", "regresion"]) == 2
    assert "'regresion' is not one of 'auto', 'single-label'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["evaluate", "run", "--on", "far"],
        ["adopt", "run", "far"],
        ["audit", "run"],
        ["site", "join", "invite", "--data", "far"],
    ],
)
def test_an_unknown_format_is_a_wrong_option(calls, capsys, command):
    assert main([*command, "--format", "manifst"]) == 2
    out, error = capsys.readouterr()
    assert "'manifst' is unknown; known: auto, class-folders" in error
    assert "did you mean `manifest`?" in error
    assert (calls.asked, out, error.count("\n")) == ([], "", 1)


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["export", "gone", "--out", "e"], 5, "gone: no such folder; expected a run"),
        (["evaluate", "gone", "--on", "far"], 5, "gone: no such folder; expected a run"),
        (["adopt", "gone", "far", "--out", "m"], 5, "gone: no such folder; expected a run"),
        (
            ["predict", "gone", "far"],
            5,
            "gone: no such folder; expected a folder that `polyclinic adopt`",
        ),
    ],
)
def test_wrong_paths_are_one_line(tmp_path, monkeypatch, capsys, arguments, code, text):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == code
    error = capsys.readouterr().err
    assert error.startswith(f"polyclinic: error: {text}")
    assert error.count("\n") == 1


@pytest.mark.parametrize("name", ["evaluate", "adopt", "predict"])
def test_json_and_quiet_exclude_each_other(calls, capsys, name):
    rest = {"evaluate": ["--on", "b"], "adopt": ["b"], "predict": ["b"]}[name]
    assert main([name, "a", *rest, "--json", "--quiet"]) == 2
    assert "--json and --quiet: choose one of the two" in capsys.readouterr().err
