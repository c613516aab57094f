"""When sites began to train, when rounds ended, how many bytes travelled: notes of `peers.py`.

An engine's processes append a line each time to FOLDER/ENGINE.marks.jsonl. Lines are short, so that
the system writes each as a whole, and clocks are the machine's, so that processes agree on them.

Bytes are those of messages about training, in both directions, as the engine's own serialiser
writes them; headers of the transport, polls and heartbeats are not in them.
"""

import itertools
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from polyclinic.data.dataset import SiteData
from polyclinic.federation.exchange import Federation
from polyclinic.federation.workers import Work


@dataclass(frozen=True)
class Marks:
    """The notes of one engine."""

    folder: Path
    engine: str

    def began(self) -> None:
        """A site begins to train, in this process."""
        self._note(kind="began", at=time.monotonic(), threads=torch.get_num_threads())

    def ended(self, *, down: int, up: int) -> None:
        """The server has the result of a round, for which so many bytes went each way."""
        self._note(kind="ended", at=time.monotonic(), down=down, up=up)

    def watch(self, federation: Federation) -> None:
        """Note the same of Polyclinic's in-process federation, from its workers and records."""
        plain = federation.workers.map

        def timed(work: Work, tasks: Any) -> Any:
            return plain(_timed, [(name, (self, work, *given)) for name, given in tasks])

        def log(record: dict[str, Any]) -> None:
            said = record["sites"].values()
            down, up = (sum(site[key] for site in said) for key in ("bytes_down", "bytes_up"))
            self.ended(down=down, up=up)

        federation.workers.map = timed  # type: ignore[method-assign]
        federation.store.log = log

    def read(self, started: float) -> dict[str, Any]:
        """Seconds, bytes and threads of a process that was started at `started`."""
        lines = self._path.read_text().splitlines()
        notes = [json.loads(line) for line in lines]
        began = [note for note in notes if note["kind"] == "began"]
        ended = [note for note in notes if note["kind"] == "ended"]
        first = min(note["at"] for note in began)
        marks = [first, *(note["at"] for note in ended)]
        return {
            "seconds_before_first_step": first - started,
            "rounds": [after - before for before, after in itertools.pairwise(marks)],
            "bytes_down_a_round": [note["down"] for note in ended],
            "bytes_up_a_round": [note["up"] for note in ended],
            "threads_a_worker": max(note["threads"] for note in began),
        }

    @property
    def _path(self) -> Path:
        return self.folder / f"{self.engine}.marks.jsonl"

    def _note(self, **note: Any) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(note) + "\n")


def flower_bytes(messages: Iterable[Any]) -> int:
    """Length of Flower's messages as protocol buffers, which is what it would send over gRPC."""
    from flwr.common.serde import message_to_proto

    return sum(message_to_proto(message).ByteSize() for message in messages)


def nvflare_bytes(models: Iterable[Any]) -> int:
    """Length of NVFlare's models as FOBS writes them, which is what its cells send."""
    from nvflare.app_common.utils.fl_model_utils import FLModelUtils
    from nvflare.fuel.utils import fobs

    return sum(len(fobs.dumps(FLModelUtils.to_shareable(model))) for model in models)


def _timed(site: SiteData, marks: Marks, work: Work, *arguments: Any) -> Any:
    marks.began()
    return work(site, *arguments)
