"""Where a method stands, and how that survives a kill: one directory a finished stage.

    stage-003/
      server.safetensors      what the server holds: the encoder, the optimiser's memory
      site-blood.safetensors  what stays at the site: its head (and its encoder, trained alone)
      record.json             what happened in the stage
      seen.json               digests of the messages that were let in so far

A stage's directory appears by one rename, after everything in it is written; then the one before
it goes.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polyclinic.data.writing import settle
from polyclinic.errors import RunError
from polyclinic.models.state import State, disk_error, load_state, save_state, under

Record = dict[str, Any]


@dataclass(frozen=True)
class Stages:
    """State after `done` of `total` stages.

    `encoders` holds the global encoder under the name "", or each site's own under the site's.
    `heads` is all that stays at the sites; `seen` has the digests of what was let in from them.
    """

    done: int
    total: int
    encoders: dict[str, State]
    heads: dict[str, State] = field(default_factory=dict)
    memory: State = field(default_factory=dict)
    seen: frozenset[str] = frozenset()

    @property
    def finished(self) -> bool:
        """Whether no stage is left."""
        return self.done >= self.total


class StageStore:
    """Saves and finds the stages of one method and seed under `folder`; `log` keeps records."""

    def __init__(self, folder: Path, log: Callable[[Record], None]) -> None:
        self.folder = folder
        self.log = log

    def latest(self, total: int) -> Stages | None:
        """The last finished stage, or None."""
        found = [p for p in self.folder.glob("stage-*") if p.name[6:].isdigit()]
        if not found:
            return None
        folder = max(found, key=lambda path: int(path.name[6:]))
        try:
            record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
            known = folder / "seen.json"  # stages of earlier versions have none
            seen = json.loads(known.read_text(encoding="utf-8")) if known.exists() else []
        except (OSError, ValueError) as error:
            raise RunError(
                f"{folder}: its record cannot be read ({error}); delete the directory and resume"
            ) from None
        server = load_state(folder / "server.safetensors", part_of=folder)
        encoders, heads = {}, {}
        if encoder := under(server, "encoder."):
            encoders[""] = encoder
        for path in sorted(folder.glob("site-*.safetensors")):
            state = load_state(path, part_of=folder)
            name = path.stem.removeprefix("site-")
            if head := under(state, "head."):
                heads[name] = head
            if own := under(state, "encoder."):
                encoders[name] = own
        self.log(record)
        memory = under(server, "memory.")
        return Stages(int(folder.name[6:]), total, encoders, heads, memory, frozenset(seen))

    def save(self, stages: Stages, record: Record) -> None:
        """Keep `stages` and drop the one before."""
        part = self.folder / f"stage-{stages.done:03d}.part"
        whole = part.with_suffix("")
        try:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            server = _prefixed(stages.memory, "memory.")
            server |= _prefixed(stages.encoders.get("", {}), "encoder.")
            save_state(server, part / "server.safetensors")
            for name in {*stages.heads, *stages.encoders} - {""}:
                own = _prefixed(stages.heads.get(name, {}), "head.")
                own |= _prefixed(stages.encoders.get(name, {}), "encoder.")
                save_state(own, part / f"site-{name}.safetensors")
            (part / "record.json").write_text(json.dumps(record), encoding="utf-8")
            (part / "seen.json").write_text(json.dumps(sorted(stages.seen)), encoding="utf-8")
            for path in part.iterdir():
                settle(path)
            part.replace(whole)
            settle(whole)  # before anything of it is sent: noise must not be drawn for it again
        except OSError as error:
            raise disk_error(error, part) from None
        self.log(record)
        for old in self.folder.glob("stage-*"):
            if old != whole:
                shutil.rmtree(old, ignore_errors=True)


def _prefixed(state: State, prefix: str) -> State:
    return {prefix + name: value for name, value in state.items()}
