"""A site's privacy accounts across machines: spent is spent, whatever is killed or asked."""

import json
from dataclasses import replace

import pytest
import torch

from polyclinic.config import PrivacyConfig
from polyclinic.deploy import budget, coordinator, site_work
from polyclinic.deploy.agreement import agreement_of, promise
from polyclinic.deploy.coordinator import coordinate
from polyclinic.deploy.folders import ACCOUNTS, ASKED, read_record
from polyclinic.deploy.remote import RemoteSites
from polyclinic.deploy.status import states
from polyclinic.deploy.tasks import to_fields
from polyclinic.errors import RunError
from polyclinic.evaluate.protocols import PROTOCOLS, protocol_plan
from polyclinic.federation import exchange
from polyclinic.federation.exchange import Door, site_stage
from polyclinic.federation.knowledge import SCORES_SCHEMA, encode, schema_of, unpack
from polyclinic.federation.ledger import Label, digest
from polyclinic.federation.plans import plan_of
from polyclinic.federation.privacy import account, clients, stage
from polyclinic.federation.privacy.statement import statement
from polyclinic.federation.stages import StageStore
from polyclinic.federation.verification import verify
from polyclinic.models.encoder import build_encoder
from polyclinic.models.state import state_of
from polyclinic.run import experiment
from polyclinic.run.experiment import run_experiment

PRIVACY = PrivacyConfig(epsilon=12.0, noise=1.0)
ONE_STAGE = 5.8  # enough for one stage at each of the sites, and for two at none


@pytest.fixture(scope="module")
def start():
    return state_of(build_encoder("small", seed=0))


@pytest.fixture
def private(deployment):
    """The federation with a budget at each site."""
    universal = replace(deployment.config.universal, distil_every=0)
    config = replace(deployment.config, privacy=PRIVACY, universal=universal)
    return replace(deployment, config=config)


@pytest.fixture
def letters(joined, private):
    return joined(private)


class Killed(BaseException):
    """Nothing catches it, like kill -9."""


class Reading:
    """A post that keeps what the server writes and answers nothing of use."""

    def __init__(self):
        self.sent = []

    def reachable(self):
        return {"north"}

    def send(self, _, task):
        self.sent.append(task)
        return str(len(self.sent))

    def collect(self, messages):
        return [(message, {"refusal": "asked"}) for message in messages]


def task_of(config, start, seed=0):
    """The task of a first stage, as the server writes it."""
    post = Reading()
    sites = RemoteSites(post, config, quorum=1, deadline=1.0, tell=lambda _: None)
    plan = plan_of(config, "universal")
    door = Door(Label("universal", seed, 1), broadcast=digest(encode(start)))
    seeds = (seed, "universal", 0, "north")
    given = ("small", start, None, plan, schema_of(start), seeds, door)
    list(sites.map(site_stage, [("north", given)]))
    return post.sent[0]


@pytest.fixture
def asked(private, start):
    return task_of(private.config, start)


@pytest.fixture
def quick(monkeypatch):
    """All but the steps themselves: accounts are charged, nothing is computed from an image."""
    monkeypatch.setattr(stage, "train_privately", lambda *_: None)


def answer_of(letters, task, name="north"):
    return site_work.respond(letters.sites[name], to_fields(task), letters.logs[name].append)


def spent(letters, name="north"):
    accounts = read_record(letters.sites[name].folder / ACCOUNTS)["accounts"]
    return accounts["seed-0/universal"]["statement"] if accounts else None


def with_plan(task, **changes):
    return replace(task, plans={"train": replace(task.plans["train"], **changes)})


def remote(letters, deployment, quorum=3):
    now = [0.0]

    def sleep(seconds):
        now[0] += seconds

    return RemoteSites(
        letters,
        deployment.config,
        quorum=quorum,
        deadline=50.0,
        tell=lambda _: None,
        clock=lambda: now[0],
        sleep=sleep,
    )


def encoder_of(run):
    return (run / "seed-0" / "universal" / "encoders" / "encoder.safetensors").read_bytes()


def test_encoder_and_accounts_are_the_same_as_in_one_process(
    letters, private, simulated, tmp_path, monkeypatch
):
    def stop(*_):
        raise Killed

    monkeypatch.setattr(account, "fresh_secret", lambda: b"s" * 32)
    monkeypatch.setattr(experiment._MethodRun, "judge", stop)
    monkeypatch.setattr(coordinator, "_judge", lambda *_: None)
    privately = replace(simulated, privacy=PRIVACY, universal=private.config.universal)
    with pytest.raises(Killed):
        run_experiment(privately, tmp_path / "here")
    result = coordinate(private.config, tmp_path / "there", remote(letters, private))
    assert encoder_of(tmp_path / "there") == encoder_of(tmp_path / "here")
    store = StageStore(tmp_path / "here" / "seed-0" / "universal", lambda _: None)
    for name, head in store.latest(2).heads.items():
        assert statement(account.read(head), PRIVACY) == spent(letters, name)
    there = json.loads(result.read_text())
    assert there["privacy"][0].startswith("at each site, epsilon at most 12 at delta 1e-05 for")
    assert there["site_privacy"] == []


def test_no_score_leaves_a_site_with_a_budget(quick, letters, asked, private):
    answer_of(letters, asked)
    plans = dict.fromkeys(PROTOCOLS, protocol_plan(private.config))
    about = {"stage": 2, "plans": plans, "bootstrap": private.config.evaluation.bootstrap}
    fields = answer_of(letters, replace(asked, kind="evaluate", **about))
    told = unpack(fields["knowledge"], SCORES_SCHEMA, "north").scalars
    assert all(value != value for value in told.values())
    out = letters.sites["north"].folder / "results" / "seed-0" / "universal" / "scores.json"
    scores = json.loads(out.read_text())
    assert scores["told"] == {"linear_probe": None, "fine_tune": None}
    assert scores["scores"][0]["value"] is not None  # the site itself knows
    assert scores["privacy"] == spent(letters)


def test_what_is_asked_again_is_answered_from_the_disk_and_charged_once(
    quick, letters, asked, monkeypatch
):
    first = answer_of(letters, asked)
    once = spent(letters)
    monkeypatch.setattr(budget, "train_stage", None)  # it is not called
    assert answer_of(letters, asked) == first
    assert spent(letters) == once


def test_killed_between_recording_and_sending_the_spend_stays(
    quick, letters, asked, start, monkeypatch
):
    real = exchange.leave

    def killed(*_):
        raise Killed

    monkeypatch.setattr(exchange, "leave", killed)
    with pytest.raises(Killed):
        answer_of(letters, asked)
    ledger = letters.sites["north"].folder / "ledger.jsonl"
    assert ledger.read_bytes() == b""  # nothing has left
    once = spent(letters)
    assert once["epsilon"] > 0
    monkeypatch.setattr(exchange, "leave", real)
    answer = answer_of(letters, asked)  # the same request, after the restart
    assert spent(letters) == once
    assert verify(ledger).sent == {digest(answer["knowledge"])}
    other = encode({name: value + 1e-3 for name, value in start.items()})
    other = replace(asked, encoder=other, broadcast=digest(other))
    assert answer_of(letters, other) == {"refusal": "privacy"}
    assert spent(letters) == once


def test_killed_before_the_spend_is_recorded_nothing_leaves(quick, letters, asked, monkeypatch):
    real = budget.write_record

    def killed(*_, **__):
        raise Killed

    monkeypatch.setattr(budget, "write_record", killed)
    with pytest.raises(Killed):
        answer_of(letters, asked)
    assert spent(letters) is None
    assert (letters.sites["north"].folder / "ledger.jsonl").read_bytes() == b""
    monkeypatch.setattr(budget, "write_record", real)
    assert set(answer_of(letters, asked)) == {"knowledge"}
    assert spent(letters)["steps"][0]["number"] == 2


def test_images_that_changed_meanwhile_are_no_second_release_under_the_same_noise(
    quick, letters, asked, monkeypatch
):
    first = answer_of(letters, asked)
    site = letters.sites["north"]
    real = site_work.Site.prepared

    def blank(self, data):
        found = real(self, data)
        return replace(found, images=255 - found.images)

    monkeypatch.setattr(site_work.Site, "prepared", blank)
    assert answer_of(letters, asked) == first
    assert site.name == "north"


def test_a_server_that_begins_again_from_the_start_finds_the_budget_spent(
    quick, letters, asked, start
):
    """It says each time that nothing was done: stage 1, no head, other encoders.

    Even a site that has lost what it was asked before charges each of them.
    """
    refused = None
    for number in range(10):
        (letters.sites["north"].folder / ASKED).unlink(missing_ok=True)
        encoder = encode({k: v + number * 1e-3 for k, v in start.items()})
        found = answer_of(letters, replace(asked, encoder=encoder, broadcast=digest(encoder)))
        if "refusal" in found:
            refused = number
            break
    assert refused is not None
    assert refused >= 1
    assert found == {"refusal": "privacy"}
    assert "stops taking part: this stage would bring its epsilon from" in letters.logs["north"][-1]
    assert spent(letters)["epsilon"] <= PRIVACY.epsilon


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"privacy": PrivacyConfig()}, r"another `privacy`"),
        ({"privacy": replace(PRIVACY, epsilon=500.0)}, r"another `privacy`"),
        ({"privacy": replace(PRIVACY, clip=9.0)}, r"another `privacy`"),
        ({"stages": 1}, r"another `stages`"),
    ],
)
def test_other_terms_than_those_agreed_to_are_refused(letters, asked, changes, text):
    assert answer_of(letters, with_plan(asked, **changes)) == {"refusal": "privacy"}
    assert text.strip("`") in letters.logs["north"][-1]
    assert spent(letters) is None


@pytest.mark.parametrize(
    ("field", "value", "name"),
    [("seed", 1, "seeds"), ("method", "fedavg", "methods"), ("stage", 2, "stages")],
)
def test_another_training_would_have_another_account_and_is_refused(
    letters, asked, field, value, name
):
    assert answer_of(letters, replace(asked, **{field: value})) == {"refusal": "privacy"}
    assert f"another `{name}` than this site agreed to" in letters.logs["north"][-1]


def test_another_split_would_bring_other_images_and_is_refused(letters, asked):
    other = replace(asked, data=replace(asked.data, split_seed=7))
    assert answer_of(letters, other) == {"refusal": "privacy"}
    assert "another `data`" in letters.logs["north"][-1]


def test_without_its_accounts_a_site_trains_nothing(letters, asked):
    (letters.sites["north"].folder / ACCOUNTS).unlink()
    assert answer_of(letters, asked) == {"refusal": "privacy"}
    assert "privacy accounts are gone, and nobody knows" in letters.logs["north"][-1]
    (letters.sites["north"].folder / ACCOUNTS).write_text("{")
    assert answer_of(letters, asked) == {"refusal": "privacy"}


def test_a_site_refuses_one_round_too_many_and_the_run_names_it(quick, joined, private, tmp_path):
    """Enough for the first stage and not for the second; the server is told one word."""
    config = replace(private.config, privacy=replace(PRIVACY, epsilon=ONE_STAGE))
    tight = replace(private, config=config)
    letters = joined(tight)
    # nothing is computed, so that messages are alike and all but one count as replays: quorum 1
    with pytest.raises(RunError, match=r"stage 2: every site failed .*its privacy budget, or what"):
        coordinate(config, tmp_path / "run", remote(letters, tight, quorum=1))
    for name, site in letters.sites.items():
        assert 3 < spent(letters, name)["epsilon"] <= ONE_STAGE
        assert len([*site.folder.glob("privacy/*.safetensors")]) == 1
        assert "stops taking part" in letters.logs[name][-1]


def test_the_status_says_what_was_spent_and_the_secret_is_not_in_it(quick, letters, asked):
    site = letters.sites["north"]
    record = json.loads((site.folder / "site.json").read_text())
    (site.folder / "site.json").write_text(json.dumps({**record, "address": "here", "port": 1}))
    answer_of(letters, asked)
    (state,) = states([site.folder])
    (line,) = [line for line in state.lines if line.startswith("privacy")]
    said = spent(letters)
    assert line == (
        f"privacy, seed-0/universal: epsilon {said['epsilon']:.3g} of 12 at delta 1e-05 for each "
        "record"
    )
    assert state.about["privacy"] == {"seed-0/universal": said}
    secret = read_record(site.folder / ACCOUNTS)["accounts"]["seed-0/universal"]["secret"]
    assert len(secret) == 64
    assert secret not in json.dumps(state.about)
    heads = b"".join(p.read_bytes() for p in (site.folder / "heads").rglob("*.safetensors"))
    assert bytes.fromhex(secret) not in heads


def test_trainings_on_the_same_images_add_up(quick, joined, private, start):
    config = replace(private.config, seeds=(0, 1))
    letters = joined(replace(private, config=config))
    for seed in config.seeds:
        answer_of(letters, task_of(config, start, seed))
    book = read_record(letters.sites["north"].folder / ACCOUNTS)
    each = [entry["statement"]["epsilon"] for entry in book["accounts"].values()]
    assert len(each) == 2
    assert max(each) < book["together"]["epsilon"] <= sum(each)
    assert agreement_of(config).trainings == 2
    assert "together at most 24 at delta 2e-05" in promise(PRIVACY, 2)


def test_noise_differs_between_sites_and_requests(letters, asked, start):
    """The encoders are nearly the same, so what differs in the changes is the noise."""
    other = encode({name: value + 1e-6 for name, value in start.items()})
    one = unpack(answer_of(letters, asked)["knowledge"], schema_of(start), "north").tensors
    (letters.sites["north"].folder / ASKED).unlink()
    again = answer_of(letters, replace(asked, encoder=other, broadcast=digest(other)))
    two = unpack(again["knowledge"], schema_of(start), "north").tensors
    assert not all(torch.equal(one[k], two[k]) for k in one)


# Whole sites, at the server.


def test_the_account_of_whole_sites_survives_the_server(joined, deployment, tmp_path, monkeypatch):
    monkeypatch.setattr(account, "fresh_secret", lambda: b"s" * 32)
    monkeypatch.setattr(coordinator, "_judge", lambda *_: None)
    monkeypatch.setattr(clients, "noise_for", lambda *_: 1.0)
    config = replace(
        deployment.config,
        privacy=PrivacyConfig(site_epsilon=50.0, site_clip=0.1),
        universal=replace(deployment.config.universal, distil_every=0),
        federation=replace(deployment.config.federation, norm_factor=0.0),
    )
    noisy = replace(deployment, config=config)
    whole = coordinate(config, tmp_path / "whole", remote(joined(noisy), noisy))
    (said,) = json.loads(whole.read_text())["site_privacy"]
    assert said["unit"] == "site"
    assert [step["number"] for step in said["steps"]] == [2]
    sites = remote(joined(noisy), noisy)

    def killed(waiting):
        if "stage 2" in waiting.about:
            raise Killed

    sites._tell = killed
    with pytest.raises(Killed):
        coordinate(config, tmp_path / "cut", sites)
    again = coordinate(config, tmp_path / "cut", remote(joined(noisy), noisy))
    assert json.loads(again.read_text())["site_privacy"] == [said]
    assert encoder_of(tmp_path / "cut") == encoder_of(tmp_path / "whole")
