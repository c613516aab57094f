"""How progress looks on a terminal, in a log file, and as JSON."""

import io
import json
import sys

import pytest

from polyclinic.cli.output import emit, table
from polyclinic.cli.progress import Live, Plain, describe, duration, telling
from polyclinic.run.progress import Progress, silent


class Clock:
    """Seconds that pass only when told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (Progress("prepare", 0.0, site="chest"), "[  0%] preparing at chest"),
        (
            Progress(
                "train",
                0.428,
                method="universal",
                seed=0,
                stage=3,
                stages=8,
                site="chest",
                loss=0.41234,
                seconds_left=200,
            ),
            "[ 42%] universal, seed 0, stage 3/8: training at chest, loss 0.412, 3 min left",
        ),
        (Progress("distil", 1.5, stage=2), "[100%] stage 2: distilling"),
        (Progress("report", -1.0), "[  0%] writing the report"),
    ],
)
def test_a_step_in_words(step, text):
    assert describe(step) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0 s"), (59.4, "59 s"), (60, "1 min"), (3599, "1 h 0 min"), (7500, "2 h 5 min")],
)
def test_a_duration_in_words(seconds, text):
    assert duration(seconds) == text


def test_plain_lines_come_on_changes_for_messages_and_every_ten_seconds():
    stream, clock = io.StringIO(), Clock()
    plain = Plain(stream, clock)

    def lines_after(step: Progress, seconds: float = 0.0) -> int:
        clock.now += seconds
        before = stream.getvalue().count("\n")
        plain(step)
        return stream.getvalue().count("\n") - before

    first = Progress("train", 0.1, method="mim", seed=0, stage=1)
    assert lines_after(first) == 1
    assert lines_after(first) == 0
    assert lines_after(Progress("distil", 0.1, method="mim", seed=0, stage=1)) == 0
    assert lines_after(Progress("train", 0.1, method="mim", seed=0, stage=2)) == 1
    assert lines_after(Progress("train", 0.1, method="mim", seed=1, stage=2)) == 1
    assert lines_after(Progress("train", 0.1, method="local", seed=1, stage=2)) == 1
    assert lines_after(Progress("train", 0.1, message="a notice")) == 1
    assert lines_after(Progress("train", 0.1, method="local", seed=1, stage=2), 9.9) == 0
    assert lines_after(Progress("train", 0.1, method="local", seed=1, stage=2), 0.2) == 1
    assert lines_after(Progress("probe", 0.1, method="local", seed=1)) == 1
    assert "\r" not in stream.getvalue()
    assert "\033" not in stream.getvalue()


@pytest.mark.parametrize("colour", [True, False])
def test_the_live_line_is_drawn_over_and_fits(monkeypatch, colour):
    monkeypatch.setenv("COLUMNS", "30")
    stream, clock = io.StringIO(), Clock()
    live = Live(stream, colour=colour, clock=clock)
    step = Progress("train", 0.5, method="universal", seed=0, stage=3, stages=8, site="chest")
    live(step)
    live(step)  # too soon to be drawn again
    drawn = stream.getvalue()
    assert drawn.count("\r") == 1
    assert "\n" not in drawn
    assert ("\033[36m" in drawn) is colour
    visible = drawn.replace("\033[36m", "").replace("\033[0m", "").replace("\033[K", "")
    assert visible == "\r" + describe(step)[:29]
    live(Progress("train", 0.5, site="chest", message="a notice"))
    assert stream.getvalue().removeprefix(drawn) == "\r\033[Kchest: a notice\n"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_the_style_fits_the_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "")  # its presence counts, not its value
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with telling() as tell:
        tell(Progress("train", 0.5))
    assert terminal.getvalue() == "\r[ 50%] training\033[K\r\033[K"
    monkeypatch.setenv("TERM", "dumb")
    with telling() as tell:
        assert isinstance(tell, Plain)
    with telling(quiet=True) as tell:
        assert tell is silent


def test_the_live_line_is_gone_when_an_error_is_reported(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)

    def interrupted() -> None:
        with telling() as tell:
            tell(Progress("train", 0.5))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert terminal.getvalue().endswith("\r\033[K")


def test_json_has_only_what_is_known_and_only_what_json_has(capsys):
    with telling(as_json=True) as tell:
        tell(Progress("train", 0.5, seed=0, loss=float("nan")))
    line = capsys.readouterr().out
    assert json.loads(line) == {
        "event": "progress",
        "phase": "train",
        "done": 0.5,
        "seed": 0,
        "loss": None,
    }
    emit({"x": [float("inf"), {"y": (1.5, float("nan"))}]})
    assert json.loads(capsys.readouterr().out) == {"x": [None, {"y": [1.5, None]}]}


def test_columns_of_numbers_stand_to_the_right():
    assert table(["name", "n"], [["a", 5], ["longer", "-"], ["b", -1.25]]) == (
        "name        n\na           5\nlonger      -\nb       -1.25"
    )
