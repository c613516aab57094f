"""A site's privacy accounts, on its own disk: what is spent is there before anything leaves.

    privacy/account.json          of each method and seed: secret, steps so far, the last request
    privacy/SEED-METHOD-*.safetensors   what was trained for that request

The server's count plays no part. A request that comes again, because the server or the site was
killed, gets what was trained for it, from the disk: computed anew, on images that may have changed
meanwhile, it would be a second release under the same noise. Any other request is charged.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from polyclinic.config import PrivacyConfig
from polyclinic.data.dataset import SiteData
from polyclinic.data.writing import settle
from polyclinic.deploy.folders import ACCOUNTS, Record, held, read_record, write_record
from polyclinic.deploy.tasks import Task
from polyclinic.errors import PrivacyError, RunError
from polyclinic.federation.knowledge import Knowledge
from polyclinic.federation.ledger import digest
from polyclinic.federation.privacy.account import Account, budget, read, without_account
from polyclinic.federation.privacy.accounting import Steps, epsilon_of
from polyclinic.federation.privacy.stage import UNTOLD
from polyclinic.federation.privacy.statement import statement
from polyclinic.federation.site import Trained, train_stage
from polyclinic.models.encoder import Preset
from polyclinic.models.state import State, load_state, save_state
from polyclinic.models.training import TrainPlan

Training = Callable[..., Trained]


def accounted(site: Path, task: Task) -> Training:
    """`train_stage` for a task, its spending recorded on the site's disk before it returns.

    Raises `PrivacyError` before anything is computed from an image where the budget does not
    allow it, or where the accounts are gone: then nobody knows what was spent.
    """
    about, request = f"seed-{task.seed}/{task.method}", request_of(task)
    kept = site / ACCOUNTS.parent / f"seed-{task.seed}-{task.method}-{request[:16]}.safetensors"

    def train(
        data: SiteData,
        preset: Preset,
        received: State,
        head: State | None,
        plan: TrainPlan,
        *seed: int | str,
    ) -> Trained:
        with _open(site) as book:
            entry = book["accounts"].get(about, {})
            if entry.get("request") == request and kept.exists():
                return _trained(load_state(kept))
            account = _account(entry, plan.privacy)
            own = {**without_account(head or {}), **(account.tensors() if account else {})}
            trained = train_stage(data, preset, received, own or None, plan, *seed)
            after = read(trained.head)
            if after is None:
                raise PrivacyError(f"site '{data.name}': no account of its training; no message")
            stays = without_account(trained.head)
            save_state(_flat(trained.knowledge.tensors, stays), kept)
            settle(kept)
            book["accounts"][about] = _entry(after, request, plan.privacy)
            write_record(site / ACCOUNTS, {**book, "together": _together(book)}, lasting=True)
            _forget(kept)
            return Trained(trained.knowledge, stays)

    return train


def request_of(task: Task) -> str:
    """The digest of all that decides what is trained; how it is written on the way does not."""
    about = {
        **asdict(replace(task, encoder=b"")),
        "encoder": digest(task.encoder),
        "exchange": None,
        "content": None,
        "how": None,
    }
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _account(entry: Record, privacy: PrivacyConfig) -> Account | None:
    if not entry:
        return None
    history = tuple(Steps(noise, rate, number) for noise, rate, number in entry["history"])
    return replace(
        budget(privacy), **entry["budget"], secret=bytes.fromhex(entry["secret"]), history=history
    )


def _entry(account: Account, request: str, privacy: PrivacyConfig) -> Record:
    return {
        "budget": {"epsilon": account.epsilon, "delta": account.delta, "unit": account.unit},
        "secret": account.secret.hex(),
        "history": [[s.noise, s.rate, s.number] for s in account.history],
        "request": request,
        "statement": statement(account, privacy),
    }


def _together(book: Record) -> Record:
    """Of all trainings: on the same images, so their steps add up."""
    entries = book["accounts"].values()
    delta = max(entry["budget"]["delta"] for entry in entries)
    history = tuple(Steps(n, r, k) for entry in entries for n, r, k in entry["history"])
    return {"epsilon": epsilon_of(history, delta), "delta": delta}


def _flat(change: State, head: State) -> State:
    return {f"change.{k}": v for k, v in change.items()} | {f"head.{k}": v for k, v in head.items()}


def _trained(state: State) -> Trained:
    def part(prefix: str) -> State:
        return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}

    return Trained(Knowledge(part("change."), UNTOLD), part("head."))


def _forget(kept: Path) -> None:
    """Remove what was trained for earlier requests of the same method and seed."""
    series = kept.name.rpartition("-")[0]
    for old in kept.parent.glob(f"{series}-*.safetensors"):
        if old != kept and old.name.rpartition("-")[0] == series:
            old.unlink(missing_ok=True)


@contextlib.contextmanager
def _open(site: Path) -> Iterator[dict[str, Any]]:
    """The accounts, for one process at a time; two that charged at once would count once."""
    path = site / ACCOUNTS
    if not path.exists():
        raise PrivacyError(
            f"{path}: the site's privacy accounts are gone, and nobody knows what was spent; "
            "nothing is trained: restore the file"
        )
    with held(path.parent):
        try:
            book = read_record(path)
        except RunError as error:
            raise PrivacyError(f"{error}; nothing is trained") from None
        if not isinstance(book.get("accounts"), dict):
            raise PrivacyError(f"{path}: expected privacy accounts; restore it from a backup")
        yield book
