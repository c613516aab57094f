"""The sites of a federation, reached by messages: what `Workers` is for sites on this machine.

The rule of a stage: it waits for a site that is there three times as long as the site needed for
the stage before, for one that has gone two minutes, and for one of which it knows neither until the
deadline. Judging is timed by judging, in the same way.
When it waits for nobody any more, it ends as soon as a quorum has answered. A site that is away,
has failed or is late is absent from the stage, named with the reason. What arrives later is not
used; the site takes part again in the next stage.

Where the process that works at a site was killed, Flower delivers what it had answered only with
the next message to that site. So a site that is there and does not answer for `NUDGE` seconds is
sent one that asks for nothing.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from polyclinic.config import Config
from polyclinic.data.dataset import SiteData
from polyclinic.deploy.agreement import agreement_of
from polyclinic.deploy.echo import echo_of, echoes
from polyclinic.deploy.tasks import REFUSALS, Task, read_answer
from polyclinic.errors import AbsentError, KnowledgeError, PolyclinicError, RunError
from polyclinic.federation.exchange import site_stage
from polyclinic.federation.knowledge import SCORES_SCHEMA, encode, unpack
from polyclinic.federation.ledger import digest
from polyclinic.federation.wire import PLAIN
from polyclinic.federation.workers import Work
from polyclinic.models.state import State
from polyclinic.models.training import TrainPlan

if TYPE_CHECKING:
    from polyclinic.deploy.remote_rounds import RemoteRounds

ATTEMPTS = 3
"""How often a site is asked in a stage whose node says that it failed."""
POLL = 1.0  # s
SLACK = 3.0
"""A site is waited for this many times as long as it needed last time, and at least `LEAST`."""
LEAST = 120.0  # s
NUDGE = 60.0  # s
PAUSE = 20.0  # s between questions whether a site's roster has been confirmed

Answer = Mapping[str, Any] | str
"""The fields of a site's answer, or why its node gives none."""


class Post(Protocol):
    """Carries tasks to sites and answers back."""

    def reachable(self) -> set[str]:
        """The sites that are there now."""

    def send(self, site: str, task: Task) -> str:
        """Send a task; returns the message's number."""

    def collect(self, messages: Sequence[str]) -> Iterable[tuple[str, Answer]]:
        """(message's number, answer) of those that have come back."""


@dataclass
class Waiting:
    """What the server waits for, for whoever wants to know."""

    about: str
    asked: list[str]
    answered: list[str] = field(default_factory=list)
    reachable: list[str] = field(default_factory=list)


class RemoteSites:
    """The sites of `config` behind a `Post`."""

    def __init__(
        self,
        post: Post,
        config: Config,
        *,
        quorum: int,
        deadline: float,
        tell: Callable[[Waiting], None],
        roster: Callable[[], Mapping[str, str]] = dict,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._post, self._config = post, config
        self.quorum, self._deadline = quorum, deadline
        self._tell, self._clock, self._sleep = tell, clock, sleep
        self._roster = roster  # the keys of the sites that have joined
        self._took: dict[tuple[str, str], float] = {}  # s, by site and kind of the last answer
        self._seen: dict[str, float] = {}  # when a site was there last
        self.scored: dict[str, str] = {}  # the digest of a site's last message with scores
        self._nudged: dict[str, float] = {}  # when a site was last sent what asks for nothing

    @property
    def names(self) -> Sequence[str]:
        """The sites, in the configuration's order."""
        return tuple(site.name for site in self._config.sites)

    @property
    def sites(self) -> Mapping[str, SiteData]:
        """Raises `RunError`: the data stay where they are."""
        raise RunError("this method needs all data in one place; simulate it with `polyclinic run`")

    def map(
        self, work: Work, tasks: Sequence[tuple[str, tuple[Any, ...]]]
    ) -> Iterator[tuple[str, Any]]:
        """Let the sites do a stage; (site, (packed message, where its head is)) in order."""
        if work is not site_stage:
            raise RunError("sites on other machines do their stage and nothing else")
        asked = {name: self.task(given) for name, given in tasks}
        missing: dict[str, PolyclinicError] = {}
        if self._config.federation.echo:
            asked, missing = self._echoed(asked)
        results = self.ask(asked) | missing
        for name, _ in tasks:
            result = results[name]
            if isinstance(result, PolyclinicError):
                yield name, result
            else:
                yield name, (result, remembered(asked[name].stage + 1))

    def visit(self, work: Work, name: str, given: tuple[Any, ...]) -> Any:
        """Let one site do a stage; it is waited for by the rule, whoever else is there."""
        if work is not site_stage:
            raise RunError("sites on other machines do their stage and nothing else")
        task = self.task(given)
        result = self.ask({name: task}, quorum=0)[name]
        if isinstance(result, PolyclinicError):
            return result
        return result, remembered(task.stage + 1)

    def _echoed(
        self, tasks: Mapping[str, Task]
    ) -> tuple[dict[str, Task], dict[str, PolyclinicError]]:
        """Gather the sites' signatures under what they are asked: (tasks with all of them, for
        those that signed; why the others did not). Waits until all have joined."""
        roster = self._all_joined("sites compare what they are sent when all have joined")
        agreement, least = agreement_of(self._config), self._config.federation.echo
        signatures: dict[str, str] = {}
        missing: dict[str, PolyclinicError] = {}
        asked = {name: replace(task, kind="echo", encoder=b"") for name, task in tasks.items()}
        for name, result in self.ask(asked, least).items():
            try:
                if isinstance(result, PolyclinicError):
                    raise result
                signatures[name] = echo_of(agreement, tasks[name], name, roster[name], result)
            except PolyclinicError as error:
                missing[name] = error
        if len(signatures) < least:
            few = RunError(f"{len(signatures)} sites have signed, and it takes {least}")
            return {}, dict.fromkeys(tasks, few) | missing
        content = echoes(signatures)
        return {name: replace(tasks[name], content=content) for name in signatures}, missing

    def task(self, given: tuple[Any, ...]) -> Task:
        """What `site_stage` would be given, as a task for another machine."""
        preset, encoder, head, plan, schema, (seed, method, stage, _), door = given
        if schema is None or encoder is None:
            raise RunError(f"{method}: sends nothing; simulate it with `polyclinic run`")
        return Task(
            kind="train",
            method=method,
            seed=seed,
            stage=stage,
            head=_kept(head),
            preset=preset,
            data=self._config.data,
            plans={"train": plan},
            bootstrap=self._config.evaluation.bootstrap,
            how=door.how,
            broadcast=door.broadcast,
            encoder=encode(encoder),
        )

    def rounds(self, tasks: Mapping[str, tuple[Any, ...]], folder: Path) -> "RemoteRounds":
        """The sites in secure aggregation; waits until all have joined."""
        from polyclinic.deploy.remote_rounds import RemoteRounds

        return RemoteRounds(
            self,
            {name: self.task(given) for name, given in tasks.items()},
            agreement_of(self._config),
            self._all_joined("secure aggregation begins when all sites have joined"),
            folder / "unmasking.json",
        )

    def wait(self, about: str, seconds: float, waited_for: Sequence[str]) -> None:
        """Do nothing for a while, and say why."""
        self._tell(Waiting(about, [*waited_for]))
        self._sleep(seconds)

    def _all_joined(self, why: str) -> Mapping[str, str]:
        while missing := [name for name in self.names if name not in self._roster()]:
            self.wait(why, POLL, missing)
        return self._roster()

    def evaluate(
        self,
        encoder: State,
        names: Sequence[str],
        method: str,
        seed: int,
        plans: Mapping[str, TrainPlan],
    ) -> Iterator[tuple[str, Mapping[str, float] | PolyclinicError]]:
        """Let sites judge a final encoder: (site, the scores that it tells) in order.

        There is no quorum: who is away can be asked later.
        """
        content = encode(encoder)
        task = Task(
            kind="evaluate",
            method=method,
            seed=seed,
            stage=self._config.local.stages,
            head=0,
            preset=self._config.preset,
            data=self._config.data,
            plans=plans,
            bootstrap=self._config.evaluation.bootstrap,
            how=PLAIN,
            broadcast=digest(content),
            encoder=content,
        )
        for name, result in self.ask(dict.fromkeys(names, task), quorum=0).items():
            try:
                if isinstance(result, PolyclinicError):
                    raise result
                scores = unpack(result, SCORES_SCHEMA, name).scalars
                self.scored[name] = digest(result)
                yield name, scores
            except PolyclinicError as error:
                yield name, error

    def ask(
        self, tasks: Mapping[str, Task], least: int = 0, quorum: int | None = None
    ) -> dict[str, bytes | PolyclinicError]:
        """Send the tasks and wait by the rule; a result for each, in order.

        `quorum` stands in place of the federation's. `least` is one of its own, where a larger one
        is needed. Whoever has not confirmed the
        roster is asked again, until there is a quorum without. It ends at once when so many have
        failed that `least` cannot be reached any more, whoever comes back.
        """
        if not tasks:
            return {}
        quorum = max(least, self.quorum if quorum is None else quorum)
        first = next(iter(tasks.values()))
        about = first.about
        results: dict[str, bytes | PolyclinicError] = {}
        failed: dict[str, int] = {}
        flying: dict[str, tuple[str, float]] = {}  # message -> site, when it was sent
        nudges: dict[str, str] = {}  # message that asks for nothing -> site
        reasons = dict.fromkeys(tasks, "it was not there")
        began = self._clock()
        while len(results) < len(tasks):
            reachable = self._post.reachable() & tasks.keys()
            self._seen |= dict.fromkeys(reachable, self._clock())
            on_the_way = {site for site, _ in flying.values()}
            for name in [n for n in tasks if n in reachable - on_the_way - results.keys()]:
                flying[self._post.send(name, tasks[name])] = (name, self._clock())
                reasons[name] = "its answer did not come in time"
            self._nudge(tasks, flying, nudges, reachable)
            for message, answer in self._post.collect([*flying, *nudges]):
                if message in nudges:
                    del nudges[message]
                    continue
                name, sent = flying.pop(message)
                if isinstance(answer, str):
                    reasons[name] = answer
                    failed[name] = failed.get(name, 0) + 1
                    if failed[name] >= ATTEMPTS:
                        results[name] = RunError(f"site '{name}': {answer}")
                    continue
                try:
                    results[name] = read_answer(answer, name)
                    if first.kind in ("train", "evaluate"):  # other rounds take a moment
                        self._took[name, first.kind] = self._clock() - sent
                except KnowledgeError as error:
                    results[name] = error
            good = [name for name, result in results.items() if isinstance(result, bytes)]
            self._tell(Waiting(about, [*tasks], sorted(good), sorted(reachable)))
            missing = tasks.keys() - results.keys()
            unconfirmed = [name for name in tasks if _unconfirmed(results.get(name))]
            if len(good) + len(missing) + len(unconfirmed) < least:
                break
            if unconfirmed and len(good) < quorum:
                self.wait(
                    f"{about}: begins when the sites' rosters are confirmed",
                    PAUSE,
                    unconfirmed,
                )
                for name in unconfirmed:
                    del results[name]
                began = self._clock()  # the deadline is for sites, not for people
                continue
            if len(good) >= quorum and not any(
                self._waits_for(name, first.kind, began, name in reachable) for name in missing
            ):
                for name in missing:
                    self._took.pop((name, first.kind), None)  # it may have become slower for good
                    self._seen.setdefault(name, began - self._deadline)  # it was waited for
                break
            if len(results) < len(tasks):
                self._sleep(POLL)
        return {name: results.get(name, AbsentError(reasons[name])) for name in tasks}

    def _nudge(
        self,
        tasks: Mapping[str, Task],
        flying: Mapping[str, tuple[str, float]],
        nudges: dict[str, str],
        reachable: Collection[str],
    ) -> None:
        """Send who is there and does not answer a message that asks for nothing, one at a time."""
        for name, sent in flying.values():
            late = self._clock() - max(sent, self._nudged.get(name, sent)) > NUDGE
            if late and name in reachable and name not in nudges.values():
                task = replace(tasks[name], kind="nudge", plans={}, encoder=b"", content=b"")
                self._nudged[name] = self._clock()
                nudges[self._post.send(name, task)] = name

    def _waits_for(self, name: str, kind: str, began: float, there: bool) -> bool:
        """Whether a stage that `began` then still waits for a site that has not answered."""
        now = self._clock()
        if there:
            known = self._took.get((name, kind))
            limit = self._deadline if known is None else max(LEAST, SLACK * known)
            return now - began <= min(self._deadline, limit)
        if name not in self._seen:
            return now - began <= self._deadline
        return now - max(began, self._seen[name]) <= min(self._deadline, LEAST)


def remembered(stage: int) -> State:
    """In place of a head, which stays at its site: after which stage the site kept it."""
    return {"stage": torch.tensor(stage)}


def _unconfirmed(result: object) -> bool:
    return isinstance(result, KnowledgeError) and REFUSALS["roster"] in str(result)


def _kept(head: State | None) -> int:
    """After which stage the site kept the head that it goes on with; 0 for none."""
    return 0 if head is None else int(head["stage"])
