"""Secure aggregation across machines: the sum alone, whoever lies, is killed, or drops out."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load

from polyclinic.config import FederationConfig, PrivacyConfig, SiteConfig
from polyclinic.deploy import coordinator, remote_rounds, secret_site
from polyclinic.deploy.coordinator import coordinate
from polyclinic.deploy.folders import ACCOUNTS, ASKED, EXCHANGES, read_record, write_record
from polyclinic.deploy.remote import RemoteSites
from polyclinic.deploy.roster import FILE, confirm, fingerprint
from polyclinic.deploy.secret_site import MASKED
from polyclinic.deploy.session import how_of
from polyclinic.deploy.site_work import respond
from polyclinic.deploy.tasks import to_fields
from polyclinic.errors import RunError
from polyclinic.federation import exchange
from polyclinic.federation.knowledge import encode
from polyclinic.federation.ledger import digest
from polyclinic.federation.privacy import account
from polyclinic.federation.secure import masking, messages
from polyclinic.federation.secure.primitives import public_of
from polyclinic.federation.secure.quantise import to_words
from polyclinic.federation.verification import verify
from polyclinic.run import experiment
from polyclinic.run.experiment import run_experiment

SECURE = FederationConfig(norm_factor=0.0, secure=True)
FOUR = ("north", "south", "west", "east")


pytestmark = pytest.mark.usefixtures("quick")


class Killed(BaseException):
    """Nothing catches it, like kill -9."""


@pytest.fixture
def secret(deployment):
    """A federation of four under secure aggregation: three of them can unmask."""
    config = deployment.config
    config = replace(
        config,
        sites=(*config.sites, SiteConfig("east", config.sites[0].path.with_name("east"))),
        federation=SECURE,
        universal=replace(config.universal, distil_every=0),
    )
    return replace(deployment, config=config)


@pytest.fixture
def letters(joined, secret):
    made = joined(secret)
    for site in made.sites.values():
        confirm(site.folder, made.roster, fingerprint(made.roster))
    return made


def remote(letters, deployment, *, quorum=3, told=None):
    now = [0.0]

    def sleep(seconds):
        now[0] += seconds

    return RemoteSites(
        letters,
        deployment.config,
        quorum=quorum,
        deadline=50.0,
        tell=told or (lambda _: None),
        roster=lambda: letters.roster,
        clock=lambda: now[0],
        sleep=sleep,
    )


def encoder_of(run):
    return (run / "seed-0" / "universal" / "encoders" / "encoder.safetensors").read_bytes()


def stages_of(result):
    (run,) = json.loads(result.read_text())["runs"]
    return run["stages"]


def sent(letters, kind, site=None):
    return [task for name, task in letters.sent if task.kind == kind and site in (None, name)]


def ask(letters, task, name):
    return respond(letters.sites[name], to_fields(task), letters.logs[name].append)


@pytest.fixture
def answers(letters):
    """What each site has answered: (site, task, fields)."""
    heard, collect = [], letters.collect

    def listening(messages):
        for message, fields in collect(messages):
            heard.append((*letters.sent[int(message)], fields))
            yield message, fields

    letters.collect = listening
    return heard


def test_the_encoder_is_the_same_as_in_one_process(
    letters, secret, hospitals, tmp_path, monkeypatch
):
    def stop(*_):
        raise Killed

    monkeypatch.setattr(experiment._MethodRun, "judge", stop)
    sites = tuple(
        replace(s, path=hospitals / s.name) for s in secret.config.sites if s.name != "east"
    )
    (tmp_path / "east").symlink_to(hospitals / "north")
    sites += (SiteConfig("east", tmp_path / "east"),)
    with monkeypatch.context() as patched:
        patched.setattr("polyclinic.config.checks._check_folders", lambda *_: None)
        with pytest.raises(Killed):
            run_experiment(replace(secret.config, sites=sites), tmp_path / "here")
    result = coordinate(secret.config, tmp_path / "there", remote(letters, secret))
    assert encoder_of(tmp_path / "there") == encoder_of(tmp_path / "here")
    assert [stage["who"] for stage in stages_of(result)] == ["4 of 4", "4 of 4"]


def test_what_leaves_is_masked_and_all_of_it_is_in_the_ledgers(
    letters, secret, answers, quick, tmp_path
):
    coordinate(secret.config, tmp_path / "run", remote(letters, secret))
    for name, site in letters.sites.items():
        own = [(t, f["knowledge"]) for n, t, f in answers if n == name]
        kinds = [task.kind for task, _ in own]
        assert kinds == ["keys", "shares", "train", "unmasking"] * 2
        ledger = verify(site.folder / "ledger.jsonl", site.folder / "keys" / "ledger.key.pub")
        assert ledger.problems == ()
        assert ledger.sent == {digest(message) for _, message in own}
        assert ledger.bytes == sum(len(message) for _, message in own)
    for name, task, fields in answers:
        if task.kind == "train":
            words = load(fields["knowledge"])
            assert {value.dtype for value in words.values()} == {np.dtype("uint32")}
            zeros = {k: torch.zeros(v.shape) for k, v in load(task.encoder).items()}
            change = quick(letters.sites[name], "", zeros, None, None, 0, "", task.stage).knowledge
            how = how_of(letters.sites[name].agreement, task.method)
            bare = {k: to_words(v.numpy(), 1.0, how) for k, v in change.tensors.items()}
            assert bare.keys() == words.keys()
            same = sum(int((words[k] == bare[k]).sum()) for k in bare)
            assert same < 0.001 * sum(value.size for value in bare.values())


def test_a_site_that_drops_out_is_absent_by_name_and_the_sum_is_of_the_others(
    letters, secret, answers, tmp_path, quick, monkeypatch
):
    def failing(site, *given):
        if site.name == "west":
            raise exchange.PolyclinicError("the disk with the images is gone")
        return quick(site, *given)

    monkeypatch.setattr(exchange, "train_stage", failing)
    result = coordinate(secret.config, tmp_path / "run", remote(letters, secret))
    for stage in stages_of(result):
        assert stage["who"] == "3 of 4: west absent"
        assert "its training failed" in stage["absent"][0]["reason"]
    first = load(sent(letters, "train", "north")[0].encoder)
    second = load(sent(letters, "train", "north")[1].encoder)
    means = [
        quick(letters.sites[n], "", {k: torch.zeros(v.shape) for k, v in first.items()}, None,
              None, 0, 0, 0).knowledge.tensors
        for n in ("north", "south", "east")
    ]  # fmt: skip
    for name, value in first.items():
        expected = value + np.mean([m[name].numpy() for m in means], axis=0)
        np.testing.assert_allclose(second[name], expected, atol=1e-6)


def test_below_the_threshold_the_round_fails_by_name(letters, secret, tmp_path, quick, monkeypatch):
    def failing(site, *given):
        if site.name in ("west", "east"):
            raise exchange.PolyclinicError("the disk with the images is gone")
        return quick(site, *given)

    monkeypatch.setattr(exchange, "train_stage", failing)
    with pytest.raises(
        RunError,
        match=r"universal, seed 0, stage 1, exchange .*2 of 4 sites sent a masked change, expected "
        r"at least 3 .*west: site 'west' sends nothing: its training failed.*east: ",
    ):
        coordinate(secret.config, tmp_path / "run", remote(letters, secret))
    assert sent(letters, "unmasking") == []


# The server lies.


def tampering(letters, kind, name, change):
    """What the server sends `name` in rounds of a kind, changed on the way."""
    send = letters.send

    def sending(site, task):
        if task.kind == kind and site == name:
            task = change(task)
        return send(site, task)

    letters.send = sending


def test_a_swapped_public_key_is_caught(letters, secret, tmp_path):
    """The server hands north a key of its own for south, to read what is sealed for south."""

    def swapped(task):
        adverts = json.loads(task.content)["adverts"]
        south = json.loads(adverts["south"])
        south["channel"] = public_of(b"\1" * 32).hex()
        south.pop("kind")
        adverts["south"] = messages.write("keys", **south).decode()
        return replace(task, content=messages.write("roster", adverts=adverts))

    tampering(letters, "shares", "north", swapped)
    result = coordinate(secret.config, tmp_path / "run", remote(letters, secret))
    assert [stage["who"] for stage in stages_of(result)] == ["3 of 4: north absent"] * 2
    log = " ".join(letters.logs["north"])
    assert "site 'north' shares nothing, site 'south': its keys for" in log
    assert "are not signed by it; somebody between the sites changed them" in log


def test_another_identity_than_the_confirmed_one_is_no_site(letters, secret, tmp_path):
    """The server made a key of its own for south, and says that it is south."""
    other = read_record(letters.sites["south"].folder / FILE)["sites"]
    write_record(letters.sites["north"].folder / FILE, {"sites": other | {"south": other["west"]}})
    result = coordinate(secret.config, tmp_path / "run", remote(letters, secret))
    assert stages_of(result)[0]["who"] == "3 of 4: north absent"


@pytest.mark.parametrize("what", ["plan", "encoder"])
def test_sites_that_are_asked_for_different_things_share_no_key(letters, secret, tmp_path, what):
    """All but north are to send nothing but zeros, so that the sum would be north's change."""

    def other(task):
        if what == "encoder":
            return replace(task, broadcast="0" * 64)
        plan = replace(task.plans["train"], learning_rate=0.0)
        return replace(task, plans={"train": plan})

    for name in ("south", "west", "east"):
        for kind in ("keys", "shares", "train", "unmasking"):
            tampering(letters, kind, name, other)
    with pytest.raises(RunError, match=r"1 of 4 sites advertised keys"):
        coordinate(secret.config, tmp_path / "run", remote(letters, secret))
    assert sent(letters, "train") == []


def test_another_encoder_than_the_keys_were_for_is_not_trained(letters, secret, tmp_path):
    def other(task):
        changed = encode({k: torch.from_numpy(v) + 1 for k, v in load(task.encoder).items()})
        return replace(task, encoder=changed)

    tampering(letters, "train", "north", other)
    result = coordinate(secret.config, tmp_path / "run", remote(letters, secret))
    assert stages_of(result)[0]["who"] == "3 of 4: north absent"
    assert "received another encoder than the other sites" in " ".join(letters.logs["north"])


def test_a_server_that_asks_for_the_plain_change_is_refused(letters, secret, tmp_path):
    coordinate(secret.config, tmp_path / "run", remote(letters, secret))
    plain = replace(sent(letters, "train", "north")[0], exchange="", content=b"")
    assert ask(letters, plain, "north") == {"refusal": "privacy"}
    assert "another `secure` than this site agreed to" in letters.logs["north"][-1]


# Steps, and what is remembered.


@pytest.fixture
def stopped(letters, secret, tmp_path):
    """(kind) -> the tasks of that round, which the sites have not been asked yet."""

    def until(kind):
        def killed(waiting):
            if waiting.about.endswith(kind):
                raise Killed

        send = letters.send
        found = {}

        def sending(site, task):
            if task.kind == kind:
                found[site] = task
                if len(found) == len(letters.sites):
                    raise Killed
                return "-1"
            return send(site, task)

        letters.send = sending
        with pytest.raises(Killed):
            coordinate(secret.config, tmp_path / "run", remote(letters, secret))
        letters.send = send
        return found

    return until


def test_a_step_that_is_asked_for_again_gives_the_same_bytes(letters, stopped, monkeypatch):
    tasks = stopped("unmasking")
    for kind in ("shares", "train"):
        (task,) = sent(letters, kind, "north")
        before = ask(letters, task, "north")
        monkeypatch.setattr(exchange, "train_stage", None)  # it is not trained again
        assert ask(letters, task, "north") == before
        other = replace(task, content=task.content.replace(b"south", b"nobody"))
        assert ask(letters, other, "north") == {"refusal": "message"}
        assert "was asked for before, with other content" in letters.logs["north"][-1]
    assert ask(letters, tasks["north"], "north") == ask(letters, tasks["north"], "north")


def test_a_site_never_gives_both_shares_of_a_peer_over_restarts(letters, stopped):
    task = stopped("unmasking")["north"]
    first = ask(letters, task, "north")
    assert set(first) == {"knowledge"}
    seeds = json.loads(first["knowledge"])
    assert sorted(seeds["seeds"]) == sorted(FOUR)
    lied = messages.write("request", survivors=["east", "north", "south"], dropped=["west"])
    assert ask(letters, replace(task, content=lied), "north") == {"refusal": "message"}
    # the site was killed and knows only what is on its disk: each answer above came from there


@pytest.mark.parametrize("kind", ["keys", "shares", "train", "unmasking"])
def test_killed_between_recording_and_sending_the_site_has_done_the_step(
    letters, stopped, monkeypatch, kind
):
    def killed(*_):
        raise Killed

    task = stopped(kind)["north"]
    ledger = letters.sites["north"].folder / "ledger.jsonl"
    before = ledger.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(secret_site, "leave", killed)
        with pytest.raises(Killed):
            ask(letters, task, "north")
    assert ledger.read_bytes() == before  # nothing has left
    kept = read_record(letters.sites["north"].folder / EXCHANGES)
    for name in ("advertise", "share_keys", "accept", "reveal"):
        monkeypatch.setattr(secret_site, name, None)  # they are not called again
    answer = ask(letters, task, "north")["knowledge"]
    said = kept["now"]["said"][kind]["message"]
    assert said == (digest(answer) if kind == "train" else answer.hex())


def test_steps_out_of_order_and_of_other_exchanges_are_refused(letters, stopped):
    tasks = stopped("shares")
    (keys,) = sent(letters, "keys", "north")
    late = replace(tasks["north"], kind="unmasking", content=b"")
    assert ask(letters, late, "north") == {"refusal": "message"}
    ask(letters, replace(keys, exchange="ab"), "north")  # begun anew
    assert ask(letters, tasks["north"], "north") == {"refusal": "message"}
    assert "it has no keys for universal, seed 0, stage 1" in letters.logs["north"][-1]


def test_a_masked_change_that_was_lost_is_not_masked_again(letters, stopped):
    stopped("unmasking")
    (task,) = sent(letters, "train", "north")
    (letters.sites["north"].folder / MASKED).write_bytes(b"other")
    assert ask(letters, task, "north") == {"refusal": "message"}
    assert "nothing is masked twice with the same masks" in letters.logs["north"][-1]


def test_the_keys_of_an_exchange_are_for_the_owner_alone(letters, stopped):
    stopped("train")
    path = letters.sites["north"].folder / EXCHANGES
    assert path.stat().st_mode & 0o777 == 0o600
    path.unlink()  # and without what it remembers the site does nothing
    assert ask(letters, sent(letters, "keys", "north")[0], "north") == {"refusal": "message"}


# Restarts of the server.


@pytest.mark.parametrize("kind", ["keys", "shares", "train", "unmasking"])
def test_killed_in_any_round_the_server_begins_anew_with_fresh_keys(
    letters, secret, stopped, tmp_path, kind
):
    stopped(kind)
    before = {task.exchange for _, task in letters.sent}
    coordinate(secret.config, tmp_path / "run", remote(letters, secret))
    whole = {task.exchange for _, task in letters.sent if task.stage == 0}
    assert len(whole) == len(before) + 1
    coordinate(secret.config, tmp_path / "again", remote(letters, secret))
    assert encoder_of(tmp_path / "run") == encoder_of(tmp_path / "again")


def test_after_unmasking_has_begun_the_sum_stays_that_of_the_same_sites(
    letters, secret, tmp_path, monkeypatch
):
    """Else the difference of two sums of one stage would be the change of the missing site."""
    real = remote_rounds.RemoteRounds.unmasking

    def killed(self, names, request):
        list(real(self, names, request))
        raise Killed

    monkeypatch.setattr(remote_rounds.RemoteRounds, "unmasking", killed)
    with pytest.raises(Killed):
        coordinate(secret.config, tmp_path / "run", remote(letters, secret))
    monkeypatch.setattr(remote_rounds.RemoteRounds, "unmasking", real)
    letters.away.add("west")
    with pytest.raises(RunError, match=r"the sum of east, north, south, west was being unmasked"):
        coordinate(secret.config, tmp_path / "run", remote(letters, secret))
    # a server that forgets it finds that the sites have not
    (tmp_path / "run" / "seed-0" / "universal" / "unmasking.json").unlink()
    with pytest.raises(RunError, match=r"0 of 4 sites revealed shares"):
        coordinate(secret.config, tmp_path / "run", remote(letters, secret))
    assert "it helped to unmask the sum of east, north, south, west" in letters.logs["north"][-1]
    (tmp_path / "run" / "seed-0" / "universal" / "unmasking.json").unlink()
    letters.away.clear()
    result = coordinate(secret.config, tmp_path / "run", remote(letters, secret))
    assert [stage["who"] for stage in stages_of(result)] == ["4 of 4", "4 of 4"]


# A stage that is repeated, so that two sums differ in the change of one site.


@pytest.fixture
def summed(letters, secret, tmp_path, monkeypatch):
    """(stage) -> run until the server has the sum of a stage, by the help of all but west."""
    real = remote_rounds.RemoteRounds.unmasking

    def until(stage):
        def killed(self, names, request):
            if self._first.stage < stage:
                return real(self, names, request)
            heard = real(self, [name for name in names if name != "west"], request)
            assert [isinstance(message, bytes) for _, message in heard] == [True] * 3
            raise Killed

        with monkeypatch.context() as patched:
            patched.setattr(remote_rounds.RemoteRounds, "unmasking", killed)
            with pytest.raises(Killed):
                coordinate(secret.config, tmp_path / "run", remote(letters, secret))

    return until


def test_a_repeated_stage_with_another_head_for_one_site_is_refused_by_it(
    letters, secret, summed, tmp_path, quick, monkeypatch
):
    """The others repeat bit by bit, so the difference of the two sums would be west's own."""
    trained = []

    def stage(site, preset, received, head, *rest):
        trained.append((site.name, rest[-2], head is None))
        found = quick(site, preset, received, head, *rest)
        if head is None:
            return found
        change = {k: v / 2 for k, v in found.knowledge.tensors.items()}
        return replace(found, knowledge=replace(found.knowledge, tensors=change))

    monkeypatch.setattr(exchange, "train_stage", stage)
    summed(1)
    assert ("west", 1, False) in trained
    honest, (heads,) = letters.send, letters.sites["west"].folder.glob("heads/*/*")
    kept = {path.name for path in heads.iterdir()}
    (letters.sites["west"].folder / ASKED).unlink()  # which would refuse it first
    tampering(letters, "train", "west", lambda task: replace(task, head=0))
    with pytest.raises(RunError, match=r"was being unmasked .* only east, north, south are there"):
        coordinate(secret.config, tmp_path / "run", remote(letters, secret))
    assert "stage 2 has another request than when the site masked" in letters.logs["west"][-1]
    assert ("west", 1, True) not in trained
    assert {path.name for path in heads.iterdir()} == kept
    letters.send = honest  # and an honest repetition goes on
    (letters.sites["west"].folder / ASKED).unlink()
    result = coordinate(secret.config, tmp_path / "run", remote(letters, secret))
    assert [stage["who"] for stage in stages_of(result)] == ["4 of 4", "4 of 4"]


def test_a_repeated_stage_of_which_another_change_comes_is_refused_before_masking(
    letters, secret, summed, tmp_path, quick, monkeypatch
):
    def other(site, *given):
        found = quick(site, *given)
        if site.name == "west":
            name, value = min(found.knowledge.tensors.items())
            value.view(-1)[0] += 0.125
            assert found.knowledge.tensors[name] is value
        return found

    summed(0)
    kept = read_record(letters.sites["west"].folder / EXCHANGES)["masked"]
    masks = []
    monkeypatch.setattr(exchange, "train_stage", other)
    real = masking.mask
    monkeypatch.setattr(masking, "mask", lambda *given: masks.append(1) or real(*given))
    with pytest.raises(RunError, match=r"was being unmasked .* only east, north, south are there"):
        coordinate(secret.config, tmp_path / "run", remote(letters, secret))
    assert "stage 1 has another change than when the site masked" in letters.logs["west"][-1]
    assert len(masks) == 3
    assert read_record(letters.sites["west"].folder / EXCHANGES)["masked"] == kept


# The roster.


def test_nothing_begins_before_people_have_confirmed_the_roster(joined, secret, tmp_path):
    letters = joined(secret)
    waits = []

    def told(waiting):
        if "confirmed" in waiting.about:
            waits.append(waiting.asked)
            if len(waits) == 3:
                for site in letters.sites.values():
                    confirm(site.folder, letters.roster, fingerprint(letters.roster))

    result = coordinate(secret.config, tmp_path / "run", remote(letters, secret, told=told))
    assert waits == [[*FOUR]] * 3
    assert "nobody has confirmed the roster" in " ".join(letters.logs["north"])
    assert [stage["who"] for stage in stages_of(result)] == ["4 of 4", "4 of 4"]


def test_it_waits_until_all_sites_have_joined(letters, secret, tmp_path):
    whole = letters.roster
    letters.roster = {name: whole[name] for name in ("north", "south", "east")}
    waits = []

    def told(waiting):
        if "have joined" in waiting.about:
            waits.append(waiting.asked)
            if len(waits) == 2:
                letters.roster = whole

    coordinate(secret.config, tmp_path / "run", remote(letters, secret, told=told))
    assert waits == [["west"], ["west"]]


# With differential privacy.


def test_with_a_budget_a_stage_that_is_begun_anew_is_charged_once(
    joined, secret, tmp_path, monkeypatch
):
    monkeypatch.undo()
    monkeypatch.setenv("POLYCLINIC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("POLYCLINIC_DEVICE", "cpu")
    monkeypatch.setenv("POLYCLINIC_PRECISION", "float32")
    monkeypatch.setattr(coordinator, "_judge", lambda *_: None)
    monkeypatch.setattr(account, "fresh_secret", lambda: b"s" * 32)
    monkeypatch.setattr("polyclinic.federation.privacy.stage.train_privately", lambda *_: None)
    privacy = PrivacyConfig(epsilon=60.0, noise=1.0)
    private = replace(secret, config=replace(secret.config, privacy=privacy))
    letters = joined(private)
    for site in letters.sites.values():
        confirm(site.folder, letters.roster, fingerprint(letters.roster))
    real = remote_rounds.RemoteRounds.unmasking

    def killed(*_):
        raise Killed

    monkeypatch.setattr(remote_rounds.RemoteRounds, "unmasking", killed)
    for _ in range(2):
        with pytest.raises(Killed):
            coordinate(private.config, tmp_path / "run", remote(letters, private))
    monkeypatch.setattr(remote_rounds.RemoteRounds, "unmasking", real)
    coordinate(private.config, tmp_path / "run", remote(letters, private))
    for site in letters.sites.values():
        book = read_record(site.folder / ACCOUNTS)["accounts"]
        (step,) = book["seed-0/universal"]["statement"]["steps"]
        # one or two in each of two stages, though the first was asked for thrice
        assert step["number"] == (2 if site.name == "west" else 4)
