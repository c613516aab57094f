"""What a site was asked before: it trains each stage for one encoder, and judges one.

A server that could ask again with another encoder, or for fewer steps, would learn from the
difference of two answers what a single one does not show. The same request may come again, as it
does after a restart, and gets the same answer.
"""

from pathlib import Path

from polyclinic.deploy.agreement import Agreement
from polyclinic.deploy.budget import request_of
from polyclinic.deploy.folders import ASKED, held, read_record, write_record
from polyclinic.deploy.tasks import Task
from polyclinic.errors import PrivacyError

IN_TURN = 3
"""Encoders for which a stage is trained where they go from site to site: whoever was away is
visited again, and others have trained the encoder meanwhile."""


def only(folder: Path, agreement: Agreement, task: Task) -> None:
    """Remember the request, on the disk; `PrivacyError` where the stage had another one before."""
    in_turn = agreement.universal.exchange == "cyclic" and task.method == "universal"
    most = IN_TURN if in_turn and task.kind == "train" else 1
    place, request = f"seed-{task.seed}/{task.method}/{task.kind}-{task.stage}", request_of(task)
    with held(folder):
        book = read_record(folder / ASKED)
        known = book.setdefault("asked", {}).setdefault(place, [])
        if request in known:
            return
        if len(known) >= most:
            raise PrivacyError(
                f"{task.about}: the server asked for this before, with another encoder or from "
                f"another head; expected the same again (at most {most} are answered); nothing is "
                "done, ask the coordinator"
            )
        known.append(request)
        write_record(folder / ASKED, book, lasting=True)
