"""How the progress of a run is shown: a live line, plain lines, JSON lines, or not at all."""

import dataclasses
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from polyclinic.cli.output import emit
from polyclinic.run.progress import Progress, Tell, silent

REDRAW_SECONDS = 0.1  # of the live line
PLAIN_SECONDS = 10.0  # between plain lines about the same stage
_DOING = {
    "prepare": "preparing",
    "mim": "masked image modelling",
    "contrastive": "contrastive learning",
    "train": "training",
    "distil": "distilling",
    "probe": "linear probe",
    "fine-tune": "fine-tuning",
    "report": "writing the report",
    "paint": "training the painter",
    "augment": "painting cases",
    "edit": "painting",
    "evaluate": "judging what is painted",
    "check": "looking at images",
    "adopt": "cross-validating",
    "predict": "predicting",
    "export": "exporting",
    "judge": "judging",
    "fetch": "fetching",
    "audit": "attacking",
}


@contextmanager
def telling(*, as_json: bool = False, quiet: bool = False) -> Iterator[Tell]:
    """A `Tell` for the command line; lines for people go to stderr, JSON to stdout."""
    if as_json:
        yield _json
    elif quiet:
        yield silent
    elif _is_terminal(sys.stderr):
        live = Live(sys.stderr, colour="NO_COLOR" not in os.environ)
        try:
            yield live
        finally:
            live.clear()
    else:
        yield Plain(sys.stderr)


class Plain:
    """A line when method, seed or stage change, for every message, and every ten seconds."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._last: tuple[object, ...] = ()
        self._next = 0.0

    def __call__(self, step: Progress) -> None:
        """Print what is worth a line."""
        if step.message:
            print(notice(step), file=self._stream, flush=True)
            return
        now = self._clock()
        about = (step.method, step.seed, step.stage if step.stage else step.phase)
        if about != self._last or now >= self._next:
            self._last, self._next = about, now + PLAIN_SECONDS
            print(describe(step), file=self._stream, flush=True)


class Live:
    """One line at the foot of a terminal, drawn over; messages scroll by above it."""

    def __init__(
        self, stream: TextIO, *, colour: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream, self._colour, self._clock = stream, colour, clock
        self._next = 0.0

    def __call__(self, step: Progress) -> None:
        """Draw the line over the one before."""
        if step.message:
            self.clear()
            print(notice(step), file=self._stream, flush=True)
            return
        now = self._clock()
        if now < self._next and step.done < 1:
            return
        self._next = now + REDRAW_SECONDS
        # One column less than there are: a full line would wrap, and could not be drawn over.
        line = describe(step)[: shutil.get_terminal_size().columns - 1]
        share, bracket, rest = line.partition("]")
        if self._colour:
            share, rest = f"\033[36m{share}{bracket}\033[0m", rest
        else:
            share += bracket
        self._stream.write(f"\r{share}{rest}\033[K")
        self._stream.flush()

    def clear(self) -> None:
        """Take the line away, so that what follows starts at the left edge."""
        self._stream.write("\r\033[K")
        self._stream.flush()
        self._next = 0.0


def notice(step: Progress) -> str:
    """The message of a step, with the site that it is about."""
    known = not step.site or step.site in step.message
    return step.message if known else f"{step.site}: {step.message}"


def describe(step: Progress) -> str:
    """`[ 42%] universal, seed 0, stage 3/8: training at chest, loss 0.412, 3 min left`."""
    share = int(100 * min(max(step.done, 0.0), 1.0))
    place = [step.method] if step.method else []
    if step.seed is not None:
        place.append(f"seed {step.seed}")
    if step.stage is not None:
        place.append(f"stage {step.stage}/{step.stages}" if step.stages else f"stage {step.stage}")
    doing = _DOING[step.phase] + (f" at {step.site}" if step.site else "")
    if step.loss is not None:
        doing += f", loss {step.loss:.3f}"
    if step.seconds_left is not None:
        doing += f", {duration(step.seconds_left)} left"
    return f"[{share:3d}%] {', '.join(place)}{': ' if place else ''}{doing}"


def duration(seconds: float) -> str:
    """Seconds in the unit that a person would choose.

    >>> [duration(seconds) for seconds in (40, 200, 7500)]
    ['40 s', '3 min', '2 h 5 min']
    """
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes = round(whole / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _json(step: Progress) -> None:
    known: dict[str, Any] = {
        key: value for key, value in dataclasses.asdict(step).items() if value not in (None, "")
    }
    emit({"event": "progress", **known})


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"
