"""Secure aggregation with sites behind messages: what `secure.stage.Here` is for sites here.

An exchange is begun anew, under a new name and with fresh keys, whenever the server was started
again. Once unmasking has begun, the sites that are in the sum stay the same for good: of two sums
of one stage, the difference would show a single change. So they are written down before anybody is
asked, and sites hold the server to it (`secret_site`).
"""

import secrets
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from polyclinic.deploy.agreement import Agreement
from polyclinic.deploy.folders import read_record, write_record
from polyclinic.deploy.remote import RemoteSites, remembered
from polyclinic.deploy.session import terms_of
from polyclinic.deploy.tasks import Kind, Task
from polyclinic.errors import PolyclinicError, RunError
from polyclinic.federation.secure import messages
from polyclinic.federation.secure.stage import Heard


class RemoteRounds:
    """The rounds of one stage. `tasks` has what each site would be given to train."""

    def __init__(
        self,
        sites: RemoteSites,
        tasks: Mapping[str, Task],
        agreement: Agreement,
        roster: Mapping[str, str],
        journal: Path,
        name: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        exchange = name()
        self._sites, self._journal = sites, journal
        self._tasks = {site: replace(task, exchange=exchange) for site, task in tasks.items()}
        self._first = next(iter(self._tasks.values()))
        self.terms = terms_of(agreement, self._first, roster)

    def keys(self) -> Heard:
        """Round 0; waits for sites where nobody has confirmed the roster yet, if they are needed.

        Where an earlier exchange of this stage was being unmasked, only its sites are asked.
        """
        begun = self._begun()
        names = [name for name in self._tasks if not begun or name in begun]
        return self._round("keys", dict.fromkeys(names, b"")).items()

    def shares(self, names: Collection[str], roster: bytes) -> Heard:
        """Round 1."""
        return self._round("shares", dict.fromkeys(names, roster)).items()

    def masked(self, delivered: Mapping[str, bytes]) -> Iterable[tuple[str, Any]]:
        """Round 2: sites open their shares and train."""
        for name, message in self._round("train", delivered).items():
            if isinstance(message, bytes):
                yield name, (message, remembered(self._first.stage + 1))
            else:
                yield name, message

    def unmasking(self, names: Collection[str], request: bytes) -> Heard:
        """Round 3. `RunError` where an earlier exchange began to unmask the sum of other sites."""
        survivors = messages.read(request, "request", "the request")["survivors"]
        begun = self._begun()
        if begun and begun != survivors:
            raise RunError(
                f"{self._first.about}: the sum of {', '.join(begun)} was being unmasked when the "
                f"server ended, and now only {', '.join(survivors)} are there: two sums would show "
                "a single change; start the server again when all of them are there"
            )
        record = {"stage": self._first.stage, "survivors": survivors}
        write_record(self._journal, record, lasting=True)
        return self._round("unmasking", dict.fromkeys(names, request)).items()

    def _begun(self) -> list[str]:
        """The sites of a sum of this stage that was being unmasked; none where there was none."""
        record = read_record(self._journal)
        return list(record["survivors"]) if record.get("stage") == self._first.stage else []

    def _round(
        self, kind: Kind, contents: Mapping[str, bytes]
    ) -> dict[str, bytes | PolyclinicError]:
        tasks = {}
        for name, task in self._tasks.items():
            if name in contents:
                encoder = task.encoder if kind == "train" else b""
                tasks[name] = replace(task, kind=kind, content=contents[name], encoder=encoder)
        return self._sites.ask(tasks, self.terms.threshold)
