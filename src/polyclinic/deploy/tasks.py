"""What the server asks of a site, and what may come back, as flat fields for a message.

A site reads what it is asked as suspiciously as the server reads the answer: names become parts of
paths, and numbers the length of a loop.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from safetensors import SafetensorError
from safetensors.torch import load

from polyclinic.config import DataConfig, build_table
from polyclinic.deploy.settings import DEPLOYABLE
from polyclinic.errors import ConfigError, KnowledgeError
from polyclinic.evaluate.protocols import PROTOCOLS
from polyclinic.federation.wire import Writing
from polyclinic.models.encoder import Preset
from polyclinic.models.state import State
from polyclinic.models.training import TrainPlan

VERSION = 2
Kind = Literal["train", "evaluate", "echo", "keys", "shares", "unmasking", "nudge"]
Field = str | int | bytes

REFUSALS = {
    "asked": "it was asked for something that it does not do; are both of one version?",
    "folder": "the folder in which it works cannot be read",
    "data": "its data cannot be used",
    "training": "its training failed",
    "privacy": "its privacy budget, or what it agreed to when it joined, does not allow this",
    "roster": "nobody there has confirmed the roster yet; `polyclinic site roster` does",
    "message": "its own check kept the message back",
    "ledger": "its ledger cannot be written",
    "bug": "a bug in Polyclinic at the site",
}
"""Why a site sends nothing, in one word. The text of the error stays in the site's log: it may hold
a path or a patient's name."""


@dataclass(frozen=True)
class Task:
    """One request to one site.

    `stage` counts the stages that were finished before; `head` is the stage after which the site
    kept the head that it goes on with, 0 for none. `plans` has one entry, `train`, or one for
    each protocol of the evaluation. `encoder` holds the bytes of the encoder that is sent.

    Under secure aggregation a stage is an exchange of four tasks (`keys`, `shares`, `train`,
    `unmasking`), which say the same of what is trained; `exchange` names it, another one after
    each restart, and `content` is what the server sends of the round. Where sites compare what
    they are sent, `echo` comes before `train`, whose `content` holds the signatures.

    A `nudge` asks for nothing.
    """

    kind: Kind
    method: str
    seed: int
    stage: int
    head: int
    preset: Preset
    data: DataConfig
    plans: Mapping[str, TrainPlan]
    bootstrap: int
    how: Writing
    broadcast: str  # digest of the encoder that all sites are sent
    encoder: bytes
    exchange: str = ""
    content: bytes = b""

    @property
    def about(self) -> str:
        """The task in words."""
        if self.kind == "evaluate":
            return f"{self.method}, seed {self.seed}: judge the encoder"
        return self.place if self.kind == "train" else f"{self.place}: {self.kind}"

    @property
    def place(self) -> str:
        """The stage in words."""
        return f"{self.method}, seed {self.seed}, stage {self.stage + 1}"


def to_fields(task: Task) -> dict[str, Field]:
    """The fields of a message."""
    return {
        "version": VERSION,
        "kind": task.kind,
        "method": task.method,
        "seed": task.seed,
        "stage": task.stage,
        "head": task.head,
        "preset": task.preset,
        "data": json.dumps(dataclasses.asdict(task.data)),
        "plans": json.dumps({name: _plan(plan) for name, plan in task.plans.items()}),
        "bootstrap": task.bootstrap,
        "how": json.dumps(dataclasses.asdict(task.how)),
        "broadcast": task.broadcast,
        "encoder": task.encoder,
        "exchange": task.exchange,
        "content": task.content,
    }


def from_fields(fields: Mapping[str, Any]) -> Task:
    """The inverse of `to_fields`; `KnowledgeError` where it is not exactly what it writes."""
    expected = {"version", *(field.name for field in dataclasses.fields(Task))}
    if set(fields) != expected or fields["version"] != VERSION:
        raise KnowledgeError(
            f"the server asks in a way that is not known here (version {fields.get('version')!r}, "
            f"expected {VERSION}); install the server's version of polyclinic"
        )
    numbers = {key: fields[key] for key in ("seed", "stage", "head", "bootstrap")}
    for key, value in numbers.items():
        if type(value) is not int or value < 0:
            raise KnowledgeError(f"the server asks with {key} {value!r:.40}, expected 0 or more")
    for key, known in (
        ("kind", get_args(Kind)),
        ("method", DEPLOYABLE),
        ("preset", get_args(Preset)),
    ):
        if fields[key] not in known:
            raise KnowledgeError(f"the server asks for the {key} {fields[key]!r:.40}")
    if not isinstance(fields["encoder"], bytes) or not _is_digest(fields["broadcast"]):
        raise KnowledgeError("the server sent no encoder, or not which one all sites are sent")
    name = fields["exchange"]
    if not (isinstance(name, str) and len(name) <= 64 and set(name) <= _HEX) or not isinstance(
        fields["content"], bytes
    ):
        raise KnowledgeError("the server asks for an exchange that cannot be read")
    try:
        data = build_table(DataConfig, json.loads(fields["data"]), Path(), "data")
        how = build_table(Writing, json.loads(fields["how"]), Path(), "how")
        plans = {
            name: build_table(TrainPlan, plan, Path(), name)
            for name, plan in json.loads(fields["plans"]).items()
        }
    except (ConfigError, ValueError, TypeError, AttributeError) as error:
        raise KnowledgeError(f"the server asks with settings that are unknown: {error}") from None
    for name, plan in plans.items():
        _check_plan(plan, name)
    wanted = {"evaluate": set(PROTOCOLS), "nudge": set()}.get(fields["kind"], {"train"})
    if set(plans) != wanted:
        raise KnowledgeError(f"the server asks with plans for {', '.join(plans) or 'nothing'}")
    return Task(
        kind=fields["kind"],
        method=fields["method"],
        preset=fields["preset"],
        data=data,
        plans=plans,
        how=how,
        broadcast=fields["broadcast"],
        encoder=fields["encoder"],
        exchange=fields["exchange"],
        content=fields["content"],
        **numbers,
    )


def _plan(plan: TrainPlan) -> dict[str, Any]:
    """A plan as a table; what is None there is not asked of sites elsewhere."""
    return {k: v for k, v in dataclasses.asdict(plan).items() if v is not None}


def _is_digest(text: object) -> bool:
    return isinstance(text, str) and len(text) == 64 and set(text) <= _HEX


_HEX = set("0123456789abcdef")


def _check_plan(plan: TrainPlan, name: str) -> None:
    """`KnowledgeError` for numbers that no training has; negative steps would undo spending."""
    for key, least in _LEAST.items():
        value = getattr(plan, key)
        if not least <= value < float("inf"):  # false for nan, too
            raise KnowledgeError(
                f"the server asks for {name} with {key} {value}, expected {least} or more"
            )


_LEAST = {
    **dict.fromkeys(("size", "batch_size", "stages"), 1),
    **dict.fromkeys(("epochs", "min_steps", "max_steps", "dense_head_epochs"), 0),
    **dict.fromkeys(("learning_rate", "weight_decay", "anchor_weight"), 0.0),
}
"""The least that the numbers of a plan may be."""


def decode(encoder: bytes) -> State:
    """The encoder that the server sent; `KnowledgeError` where it cannot be read."""
    try:
        return load(encoder)
    except (SafetensorError, ValueError, KeyError) as error:
        raise KnowledgeError(f"the server sent an encoder that cannot be read ({error})") from None


def answer(knowledge: bytes) -> dict[str, Field]:
    """The fields of an answer with packed knowledge."""
    return {"knowledge": knowledge}


def refusal(word: str) -> dict[str, Field]:
    """The fields of an answer that says no more than a word of `REFUSALS`."""
    return {"refusal": word}


def read_answer(fields: Mapping[str, Any], site: str) -> bytes:
    """The packed knowledge in a site's answer; `KnowledgeError` for everything else."""
    match dict(fields):
        case {"knowledge": bytes(knowledge)} if len(fields) == 1:
            return knowledge
        case {"refusal": str(word)} if len(fields) == 1 and word in REFUSALS:
            raise KnowledgeError(f"site '{site}' sends nothing: {REFUSALS[word]}; see its log")
        case _:
            raise KnowledgeError(
                f"refused from site '{site}': an answer with other parts than the declared ones"
            )
