"""A run's directory: what is in it, and how it survives kills, full disks and second starts.

RUN/
  config.json         the resolved configuration; `polyclinic run` accepts it too
  environment.json    machine and versions, as the run was started with
  metrics.jsonl       one record a finished unit of work
  log.txt             what was told, with times
  results.json        scores, gains, comparisons (docs/results.md)
  report.html
  examples/           pictures for the report
  ledgers/            what left each site: a hash chain, a line a message
  seed-0/mim/         pre-training; seed-0/<method>/ stages, encoders, evaluation/, held-out/
"""

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from polyclinic.config import Config, FederationConfig, PrivacyConfig, config_to_dict
from polyclinic.data.writing import writing
from polyclinic.errors import ConfigError, PolyclinicError, RunError
from polyclinic.models.state import disk_error
from polyclinic.run.lock import locked
from polyclinic.run.progress import Progress, Tell, message
from polyclinic.run.start import is_unused

Record = dict[str, Any]
_AT_START = ("config.json", "environment.json", "splits.json", "log.txt")
"""What a run writes before it computes anything."""
C = TypeVar("C")

_MAY_CHANGE = frozenset({"jobs", "methods", "seeds"})
"""Options that a resumed run may have changed: they add work, or only say how it is done."""
_UNSAID: Record = {
    "federation": config_to_dict(FederationConfig()),
    "privacy": config_to_dict(PrivacyConfig()),
}
"""Tables that runs of earlier versions do not name, and what such a run was started with."""


def open_run(path: Path, config: Config, *, resume: bool) -> "RunDirectory[Config]":
    """The directory of a federation's run."""
    return RunDirectory(
        path, config, config_to_dict, resume=resume, may_change=_MAY_CHANGE, unsaid=_UNSAID
    )


class RunDirectory(Generic[C]):
    """Opens `path` for a run of `config`; a second process is refused while one works in it.

    `as_dict` makes JSON of a configuration. A run is resumed with the configuration that it was
    started with, except for the keys in `may_change`. `unsaid` is what one that does not name a
    key was started with. A new run that one of our errors ends before anything was computed leaves
    an unused folder.
    """

    def __init__(
        self,
        path: Path,
        config: C,
        as_dict: Callable[[C], Record],
        *,
        resume: bool,
        may_change: frozenset[str] = frozenset(),
        unsaid: Record | None = None,
    ) -> None:
        self.path = path
        self.config = config
        stored = path / "config.json"
        self._fresh = not stored.exists()
        if stored.exists():
            if not resume:
                raise RunError(
                    f"{path}: already holds a run; continue it with --resume or choose another "
                    "--out"
                )
            _same((unsaid or {}) | read_json(stored), as_dict(config), may_change, path)
        elif not is_unused(path):
            raise RunError(f"{path}: not empty and not a run; choose another --out")
        elif resume and not path.exists():
            raise RunError(f"{path}: no run to resume; leave --resume out")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(error, path) from None
        with contextlib.ExitStack() as opened:  # a start that fails lets go of the lock
            busy = f"{path}: another process works on this run; wait for it or stop it"
            opened.enter_context(locked(path / ".lock", busy))
            self.write_json("config.json", as_dict(config))
            self.records = self._read_records()
            self._log = opened.enter_context((path / "log.txt").open("a", encoding="utf-8"))
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Let another process work in the directory."""
        self._opened.close()

    def _forget(self) -> None:
        """Leave an unused folder, so that the mended command can be given again."""
        if {path.name for path in self.path.iterdir()} <= {".lock", *_AT_START}:
            for name in _AT_START:
                (self.path / name).unlink(missing_ok=True)

    def __enter__(self) -> "RunDirectory[C]":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._fresh and kind is not None and issubclass(kind, PolyclinicError):
            with contextlib.suppress(OSError):
                self._forget()
        self.close()

    def record(self, record: Record) -> None:
        """Append to metrics.jsonl, once for each unit."""
        if record["unit"] in self.records:
            return
        path = self.path / "metrics.jsonl"
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
                file.flush()
        except OSError as error:
            raise disk_error(error, path) from None
        self.records[record["unit"]] = record

    def log(self, line: str) -> None:
        """Append to log.txt, with the time."""
        with contextlib.suppress(OSError):  # a log that cannot be written stops nothing
            self._log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")
            self._log.flush()

    def telling(self, tell: Tell, line: Callable[[Progress], str] = message) -> Tell:
        """`tell`, and log.txt before it: `line` of what is told, where there is any."""

        def told(progress: Progress) -> None:
            if text := line(progress):
                self.log(text)
            tell(progress)

        return told

    def write_json(self, name: str, content: Any) -> Path:
        """Write a JSON file, whole or not at all."""
        path = self.path / name
        _write_whole(path, json.dumps(content, indent=1, allow_nan=False) + "\n")
        return path

    def _read_records(self) -> dict[str, Record]:
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return {}
        records: dict[str, Record] = {}
        whole = []
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            try:
                record = json.loads(line)
            except ValueError:
                break  # torn by a kill; its unit is done again
            if not line.endswith("\n"):
                break
            records[record["unit"]] = record
            whole.append(line)
        _write_whole(path, "".join(whole))
        return records


def read_json(path: Path) -> Record:
    """Read what `RunDirectory.write_json` wrote; `RunError` names a file that is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path}: cannot be read ({error}); restore it, or start a new run with another --out"
        ) from None
    if not isinstance(content, dict):
        raise RunError(
            f"{path}: expected a JSON object, got {content!r:.40}; restore it, or start a new run "
            "with another --out"
        )
    return content


def _write_whole(path: Path, text: str) -> None:
    try:
        with writing(path) as part:
            part.write_text(text, encoding="utf-8")
    except OSError as error:
        raise disk_error(error, path) from None


def _same(stored: Record, asked: Record, may_change: frozenset[str], path: Path) -> None:
    now = json.loads(json.dumps(asked))
    if stored.get("quick", False) != now.get("quick", False):
        then, do = ("with", "add it") if stored.get("quick") else ("without", "leave it out")
        raise ConfigError(f"{path}: the run to resume was started {then} --quick; {do}")
    for key in sorted((stored.keys() | now.keys()) - may_change):
        unknown_then = key not in stored and not now[key]  # a setting newer than the run, not used
        if stored.get(key) != now.get(key) and not unknown_then:
            raise ConfigError(
                f"{path}: the run to resume has another `{key}`: "
                f"{_differing(stored.get(key), now.get(key))}; start a new run with another --out"
            )


def _differing(stored: Any, now: Any) -> str:
    if isinstance(stored, dict) and isinstance(now, dict):
        for key in stored:
            if stored[key] != now.get(key):
                return f"{key} was {stored[key]!r}, is {now.get(key)!r}"
    return f"was {stored!r:.80}, is {now!r:.80}"
