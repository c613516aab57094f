"""A site's part in secure aggregation across machines: one task a round, a process for each.

    secure/exchange.json   the exchange that goes on (private keys), and what must be remembered
    secure/masked          the masked change that has left, or is about to

What a step has led to is on the disk before it leaves. So a step that is asked for again gives the
same bytes; a vector is never masked twice with the same masks; and after a restart, as before it,
of each other site one kind of share leaves. Of a stage, one change leaves: sums of two exchanges
that differ in the change of a single site would show how it differs.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from polyclinic.deploy.agreement import Agreement
from polyclinic.deploy.budget import request_of
from polyclinic.deploy.folders import (
    EXCHANGES,
    Record,
    held,
    read_record,
    write_private,
    write_record,
)
from polyclinic.deploy.roster import needed_roster, private_identity
from polyclinic.deploy.session import how_of, terms_of
from polyclinic.deploy.tasks import Task
from polyclinic.errors import KnowledgeError
from polyclinic.federation.ledger import Label, Ledger, digest, leave
from polyclinic.federation.plans import weighting_of
from polyclinic.federation.secure.keeping import from_record, to_record
from polyclinic.federation.secure.masking import Masking
from polyclinic.federation.secure.member import Member, accept, advertise, reveal, share_keys
from polyclinic.federation.secure.messages import Terms, key_marks, read, roster_keys
from polyclinic.federation.secure.primitives import Words

MASKED = EXCHANGES.with_name("masked")


class Secrecy:
    """The exchanges of a site; `name` is the site's, `folder` its folder."""

    def __init__(self, folder: Path, name: str, agreement: Agreement, ledger: Ledger) -> None:
        self.folder, self.name, self.agreement, self.ledger = folder, name, agreement, ledger

    def keys(self, task: Task) -> bytes:
        """Round 0: fresh keys. An exchange that went on before is over, its keys are gone."""
        terms = self._terms(task)
        with self._book() as book:
            now = book.get("now", {})
            if now.get("session") != terms.session:
                member, message = advertise(terms, self.name, private_identity(self.folder))
                (self.folder / MASKED).unlink(missing_ok=True)
                now = book["now"] = {"session": terms.session, "said": {}}
                self._keep(book, "keys", task, member, message)
        return self._leave(task, bytes.fromhex(now["said"]["keys"]["message"]))

    def shares(self, task: Task) -> bytes:
        """Round 1: sealed shares for the sites of the roster that the server gathered."""

        def step(member: Member, book: Record) -> bytes:
            known = frozenset(book.get("marks", []))
            message = share_keys(member, task.content, known)
            peers = roster_keys(member.terms, task.content, known, "the roster").values()
            book["marks"] = sorted(known.union(*map(key_marks, peers)))
            return message

        return self._said(task, "shares", step)

    def unmasking(self, task: Task) -> bytes:
        """Round 3: one kind of share of each site, for one sum of the stage and no other."""

        def step(member: Member, book: Record) -> bytes:
            message = reveal(member, task.content)
            survivors = read(task.content, "request", "the request")["survivors"]
            before = book.setdefault("unmasked", {}).setdefault(_stage_of(task), survivors)
            if before != survivors:
                raise KnowledgeError(
                    f"site '{self.name}' reveals nothing: in this stage it helped to unmask the "
                    f"sum of {', '.join(before)}; together with that of {', '.join(survivors)} it "
                    "would show the change of a single site"
                )
            return message

        return self._said(task, "unmasking", step)

    def masked(self, task: Task, train: Callable[[Masking], bytes]) -> bytes:
        """Round 2: open the shares, train, and mask the change; `train` does the latter two.

        The same task again gets the same message, from the disk. In another exchange of the stage,
        `KnowledgeError` before training where the site is asked for another one than before, with
        another head for example, and before masking where another change has come of it.
        """
        terms = self._terms(task)
        kept = self.folder / MASKED
        with self._book() as book:
            now = self._now(book, terms)
            if "train" in now["said"]:
                message = kept.read_bytes() if kept.exists() else b""
                self._same(now["said"]["train"], task)
                if digest(message) != now["said"]["train"]["message"]:
                    raise KnowledgeError(
                        f"{kept}: not the masked change that was kept; nothing is masked twice "
                        "with the same masks: wait for a new exchange"
                    )
                return self._leave(task, message)
            member = from_record(now["member"], terms)
            how = how_of(self.agreement, task.method)
            weighting = weighting_of(self.agreement, task.method)
            # from when one was masked, not unmasked: the others may unmask a sum without this site
            one = book.setdefault("masked", {}).setdefault(_stage_of(task), {})
            self._only(one, "request", request_of(task), task)

            def check(words: Words) -> None:
                self._only(one, "change", digest(words.tobytes()), task)

            masks = accept(member, task.content)
            message = train(Masking(masks, how, weighting, check))
            write_private(kept, message, lasting=True)
            self._keep(book, "train", task, member, digest(message))
        return self._leave(task, message)

    def _said(self, task: Task, kind: str, step: Callable[[Member, Record], bytes]) -> bytes:
        terms = self._terms(task)
        with self._book() as book:
            now = self._now(book, terms)
            if kind in now["said"]:
                self._same(now["said"][kind], task)
            else:
                member = from_record(now["member"], terms)
                message = step(member, book)
                self._keep(book, kind, task, member, message)
        return self._leave(task, bytes.fromhex(now["said"][kind]["message"]))

    def _terms(self, task: Task) -> Terms:
        return terms_of(self.agreement, task, needed_roster(self.folder, self.name))

    def _now(self, book: Record, terms: Terms) -> Record:
        now: Record = book.get("now", {})
        if now.get("session") != terms.session:
            raise KnowledgeError(
                f"site '{self.name}' does nothing: it has no keys for {terms.session}; the rounds "
                "have an order, and all of them are about the same"
            )
        return now

    def _only(self, one: Record, what: str, found: str, task: Task) -> None:
        if one.setdefault(what, found) != found:
            raise KnowledgeError(
                f"site '{self.name}' masks nothing: {task.about} has another {what} than when the "
                "site masked its change of this stage before; two sums would show the difference "
                "of a single site; repeat the stage as it was"
            )

    def _same(self, said: Record, task: Task) -> None:
        if said["asked"] != digest(task.content):
            raise KnowledgeError(
                f"site '{self.name}' does nothing: {task.about} was asked for before, with other "
                "content; a step is done once"
            )

    def _keep(
        self, book: Record, kind: str, task: Task, member: Member, message: bytes | str
    ) -> None:
        text = message.hex() if isinstance(message, bytes) else message
        book["now"]["member"] = to_record(member)
        book["now"]["said"][kind] = {"asked": digest(task.content), "message": text}
        write_record(self.folder / EXCHANGES, book, lasting=True)

    def _leave(self, task: Task, message: bytes) -> bytes:
        kind = "update" if task.kind == "train" else task.kind
        return leave(message, self.ledger, Label(task.method, task.seed, task.stage + 1, kind))

    @contextlib.contextmanager
    def _book(self) -> Iterator[dict[str, Any]]:
        path = self.folder / EXCHANGES
        if not path.exists():
            raise KnowledgeError(
                f"{path}: what this site remembers of its exchanges is gone, and with it what it "
                "has helped to unmask; restore the file"
            )
        with held(path.parent):
            yield read_record(path)


def _stage_of(task: Task) -> str:
    return f"seed-{task.seed}/{task.method}/{task.stage}"
