"""What a site does when the server asks: train a stage, or judge a final encoder.

The functions are those of a run in one process. What stays: data, heads, predictions, scores with
their intervals, and the text of errors. What leaves: packed knowledge, or one word.
"""

import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyclinic.config import DataConfig, SiteConfig, build_table
from polyclinic.data.dataset import SiteData
from polyclinic.deploy import echo
from polyclinic.deploy.agreement import Agreement, hold_to
from polyclinic.deploy.asked import only
from polyclinic.deploy.budget import accounted
from polyclinic.deploy.folders import (
    ACCOUNTS,
    LEDGER,
    STATUS,
    Record,
    read_record,
    write_record,
    write_status,
)
from polyclinic.deploy.secret_site import Secrecy
from polyclinic.deploy.tasks import Field, Task, answer, decode, from_fields, refusal
from polyclinic.errors import (
    DataError,
    KnowledgeError,
    LedgerError,
    PolyclinicError,
    PrivacyError,
    RosterError,
    RunError,
)
from polyclinic.evaluate.bootstrap import cluster_weights, interval
from polyclinic.evaluate.metrics import metrics_of, primary_metric
from polyclinic.evaluate.protocols import PROTOCOLS
from polyclinic.federation.exchange import Door, site_stage
from polyclinic.federation.knowledge import SCORES_SCHEMA, Knowledge, pack, schema_of
from polyclinic.federation.ledger import Label, Ledger, leave
from polyclinic.federation.secure.masking import Masking
from polyclinic.models.device import PRECISIONS, asked_precision, fixed_precision, precision
from polyclinic.models.state import State, disk_error, load_state, save_state
from polyclinic.run.experiment import prepared_site
from polyclinic.run.judging import estimate_json

SCORE_NAMES = {"linear-probe": "linear_probe", "fine-tune": "fine_tune"}


@dataclass(frozen=True)
class Site:
    """A site that has joined: its folder, and what it was told when it did."""

    folder: Path
    name: str
    data: Path
    format: str
    task: Any
    tells_scores: bool
    agreement: Agreement

    @property
    def ledger(self) -> Ledger:
        """What has left the site, signed with a key of its own."""
        key = self.folder / "keys" / "ledger.key"
        return Ledger(self.folder / LEDGER, self.name, key, begun=True)

    @property
    def secrecy(self) -> Secrecy:
        """Its exchanges under secure aggregation."""
        return Secrecy(self.folder, self.name, self.agreement, self.ledger)

    def prepared(self, data: DataConfig) -> SiteData:
        """The site's data as the federation wants them."""
        return prepared_site(SiteConfig(self.name, self.data, self.format, self.task), data)


def load_site(folder: Path) -> Site:
    """The site of a folder; `RunError` where none has joined from there."""
    record = read_record(folder / "site.json")
    try:
        return Site(
            folder,
            record["name"],
            Path(record["data"]),
            record["format"],
            record["task"],
            bool(record["tells_scores"]),
            build_table(Agreement, record["agreement"], folder, f"{folder}: agreement"),
        )
    except KeyError:
        raise RunError(
            f"{folder}: no site has joined from here; use `polyclinic site join` first"
        ) from None


def respond_from(
    folder: Path, fields: Mapping[str, Any], log: Callable[[str], None]
) -> dict[str, Field]:
    """Do what the server asks of the site in `folder`: the fields of the answer.

    Never raises: Flower would send the text of the error, which may hold a path or a name.
    """
    try:
        return respond(load_site(folder), fields, log)
    except PolyclinicError as error:
        log(f"nothing leaves but the word 'folder': {error}")
        return refusal("folder")
    except Exception:
        log(f"nothing leaves but the word 'bug': {traceback.format_exc()}")
        return refusal("bug")


def respond(site: Site, fields: Mapping[str, Any], log: Callable[[str], None]) -> dict[str, Field]:
    """Do what the server asks: the fields of the answer; what `log` is told stays at the site."""
    began = time.time()
    try:
        task = from_fields(fields)
    except KnowledgeError as error:
        log(f"nothing leaves but the word 'asked': {error}")
        return refusal("asked")
    try:
        about = task.about
        log(f"{about}: begins")
        write_status(site.folder / f"work-{STATUS}", {"doing": about, "since": began})
        with _precision(site):
            hold_to(site.agreement, task)
            site.ledger.require()
            if task.kind in ("train", "evaluate"):
                only(site.folder, site.agreement, task)
            content = WORK[task.kind](site, task)
        log(f"{about}: done in {time.time() - began:.1f} s, {len(content)} bytes leave")
        write_status(site.folder / f"work-{STATUS}", {"done": about, "at": time.time()})
        return answer(content)
    except PolyclinicError as error:
        word = _word(error)
        log(f"nothing leaves but the word '{word}': {error}")
    except Exception:
        word = "bug"
        log(f"nothing leaves but the word '{word}': {traceback.format_exc()}")
    return refusal(word)


def train(site: Site, task: Task) -> bytes:
    """A stage: the packed change of the encoder, masked under secure aggregation."""
    if site.agreement.federation.echo:
        echo.check(site.folder, site.name, site.agreement, task)
    if site.agreement.federation.secure:
        return site.secrecy.masked(task, lambda masking: _stage(site, task, masking))
    return _stage(site, task)


def _stage(site: Site, task: Task, masking: Masking | None = None) -> bytes:
    """The packed change. The head is kept under the stage's number.

    A server that was killed asks for the same stage again, so the head from before is kept until
    the next stage shows that this one counted. What is masked gets its line in the ledger later,
    once it is on the disk.
    """
    received = decode(task.encoder)
    heads = site.folder / "heads" / f"seed-{task.seed}" / task.method
    head = _head(heads, task.head)
    plan = task.plans["train"]
    door = Door(
        Label(task.method, task.seed, task.stage + 1),
        task.how,
        task.broadcast,
        None if masking else site.ledger,
        masking,
        training=accounted(site.folder, task) if plan.privacy.epsilon else None,
    )
    parcel, stays = site_stage(
        site.prepared(task.data),
        task.preset,
        received,
        head,
        plan,
        schema_of(received, gains=plan.guard),
        (task.seed, task.method, task.stage, site.name),
        door,
    )
    save_state(stays, heads / _kept_as(task.stage + 1))
    for old in heads.glob("stage-*.safetensors"):
        if old.name not in (_kept_as(task.head), _kept_as(task.stage + 1)):
            old.unlink(missing_ok=True)
    return bytes(parcel.message)


def evaluate(site: Site, task: Task) -> bytes:
    """Judge a final encoder by every protocol, and keep it: the scores that the site tells.

    In the site's folder, `results/seed-S/METHOD/`: the encoder, the predictions for the test
    images, and `scores.json` with every metric and its interval. Under differential privacy no
    score is told: they come from images without noise.
    """
    state = decode(task.encoder)
    data = site.prepared(task.data)
    out = site.folder / "results" / f"seed-{task.seed}" / task.method
    save_state(state, out / "encoder.safetensors")
    weights = cluster_weights(
        data.patients[data.split["test"]], task.bootstrap, task.data.split_seed
    )
    main = primary_metric(data.task)
    told, rows = {}, []
    for protocol, judge in PROTOCOLS.items():
        seed = (task.seed, task.method, protocol, site.name)
        found = judge(task.preset, state, data, task.plans[protocol], *seed).predictions
        try:
            found.save(out / f"{protocol}.npz")
        except OSError as error:
            raise disk_error(error, out) from None
        for metric in metrics_of(data.task):
            estimate = interval([found], metric, weights)
            row = {"protocol": protocol, "metric": metric, "primary": metric == main}
            rows.append(row | estimate_json(estimate))
            if metric == main:
                told[SCORE_NAMES[protocol]] = estimate.value
    spent = read_record(site.folder / ACCOUNTS).get("accounts", {})
    about: Record = {"site": site.name, "scores": rows}
    if account := spent.get(f"seed-{task.seed}/{task.method}"):
        about["privacy"] = account["statement"]
    if not site.tells_scores or site.agreement.privacy.epsilon:
        told = dict.fromkeys(told, float("nan"))
    about["told"] = {name: value if value == value else None for name, value in told.items()}
    write_record(out / "scores.json", about)
    label = Label(task.method, task.seed, task.stage, kind="scores")
    return leave(pack(Knowledge({}, told), SCORES_SCHEMA, site.name), site.ledger, label)


def signed_echo(site: Site, task: Task) -> bytes:
    """Before a stage: the site's signature under what it is asked and will be sent."""
    return _leave(site, task, echo.sign(site.folder, site.name, site.agreement, task))


def nudged(site: Site, task: Task) -> bytes:
    """Nothing, which lets an answer on its way that waits for the next message (see `remote`)."""
    return _leave(site, task, b"")


def _leave(site: Site, task: Task, message: bytes) -> bytes:
    label = Label(task.method, task.seed, task.stage + 1, kind=task.kind)
    return leave(message, site.ledger, label)


WORK: dict[str, Callable[[Site, Task], bytes]] = {
    "train": train,
    "evaluate": evaluate,
    "echo": signed_echo,
    "nudge": nudged,
    "keys": lambda site, task: site.secrecy.keys(task),
    "shares": lambda site, task: site.secrecy.shares(task),
    "unmasking": lambda site, task: site.secrecy.unmasking(task),
}


def _kept_as(number: int) -> str:
    return f"stage-{number:03d}.safetensors"


def _head(heads: Path, number: int) -> State | None:
    """The head of a stage; None at the beginning, and where this site's folder was lost."""
    path = heads / _kept_as(number)
    return load_state(path) if number and path.exists() else None


@contextmanager
def _precision(site: Site) -> Iterator[None]:
    """Compute in one precision from the first stage to the last."""
    path = site.folder / "precision.json"
    chosen = asked_precision() or PRECISIONS.get(str(read_record(path).get("precision")))
    if chosen is None:
        chosen = precision()
        write_record(path, {"precision": str(chosen).removeprefix("torch.")})
    with fixed_precision(chosen):
        yield


def _word(error: PolyclinicError) -> str:
    match error:
        case PrivacyError():
            return "privacy"
        case DataError():
            return "data"
        case RosterError():
            return "roster"
        case KnowledgeError():
            return "message"
        case LedgerError():
            return "ledger"
        case _:
            return "training"
