"""The four rounds: the sum is the sum, whoever drops out; and every refusal."""

import copy
import json
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyclinic.errors import ConfigError, KnowledgeError, RunError
from polyclinic.federation.secure import messages, server
from polyclinic.federation.secure.member import accept, advertise, mask, reveal, share_keys
from polyclinic.federation.secure.messages import Terms, key_marks, roster_keys
from polyclinic.federation.secure.primitives import signed
from polyclinic.federation.secure.server import ask_shares, gather_keys, route_shares, unmask


def words_of(sites, count=20, bits=32, seed=0):
    rng = np.random.default_rng(seed)
    return {
        chr(ord("a") + i): rng.integers(0, 2**bits, count, f"u{bits // 8}", endpoint=False)
        for i in range(sites)
    }


def plain_sum(vectors, sites):
    return np.sum([vectors[s] for s in sites], 0, dtype=next(iter(vectors.values())).dtype)


def random_bytes(*seed):
    return random.Random(repr(seed)).randbytes


def changed(message, **fields):
    """A message with other fields, written as it should be."""
    content = {**json.loads(message), **fields}
    return messages.write(content.pop("kind"), **content)


# The sum.


@settings(max_examples=25, derandomize=True, database=None, deadline=None)
@given(data=st.data())
def test_the_sum_is_the_plain_sum_whoever_drops_out_in_whichever_round(play, data):
    sites = data.draw(st.integers(3, 7), "sites")
    threshold = data.draw(st.integers(sites // 2 + 1, sites), "threshold")
    bits = data.draw(st.sampled_from([32, 64]), "bits")
    count = data.draw(st.integers(0, 40), "count")
    vectors = words_of(sites, count, bits, seed=sites)
    leaving = data.draw(
        st.lists(st.sampled_from(sorted(vectors)), max_size=sites - threshold, unique=True), "gone"
    )
    gone = ([], [], [], [])
    for site in leaving:
        gone[data.draw(st.integers(0, 3), f"{site} leaves in round")].append(site)
    played = play(vectors, threshold, gone=gone)
    there = vectors.keys() - {*gone[0], *gone[1], *gone[2]}
    assert set(played.masked) == there
    assert played.total.tolist() == plain_sum(vectors, there).tolist()
    assert played.total.dtype == vectors["a"].dtype


@pytest.mark.parametrize("bits", [32, 64])
def test_masks_that_do_not_cancel_would_be_seen(play, monkeypatch, bits):
    vectors = words_of(4, bits=bits)
    gone = ((), (), "d", ())
    assert (play(vectors, gone=gone).total == plain_sum(vectors, "abc")).all()
    monkeypatch.setattr(server, "pair_sign", lambda *_: 1)
    assert (play(vectors, gone=gone).total != plain_sum(vectors, "abc")).any()


# Too few.


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, r"stage 1: 3 of 5 sites advertised keys, expected at least 4 \(federation.secure_thr"),
        (1, r"3 of 5 sites shared keys, expected at least 4"),
        (2, r"3 of 5 sites sent a masked change, expected at least 4"),
        (3, r"3 of 5 sites revealed shares, expected at least 4 .*; nothing is unmasked: resume"),
    ],
)
def test_below_the_threshold_nothing_is_unmasked(play, number, text):
    gone = tuple("de" if number == i else "" for i in range(4))
    with pytest.raises(RunError, match=text):
        play(words_of(5), gone=gone)


def test_a_site_counts_for_itself(begin):
    played = begin(5)
    played.meet()
    few = messages.write("roster", adverts={s: played.adverts[s].decode() for s in "abc"})
    with pytest.raises(RunError, match=r"site 'a' shares nothing: 3 sites are left, .*at least 4"):
        share_keys(played.members["a"], few)
    played.share()
    boxes = json.loads(played.delivered["a"])["boxes"]
    two = messages.write("delivery", boxes={s: boxes[s] for s in "bc"})
    with pytest.raises(RunError, match=r"site 'a' masks nothing: 3 sites are left"):
        accept(played.members["a"], two)
    played.mask(words_of(5))
    request = messages.write("request", survivors=["a", "b", "c"], dropped=["d", "e"])
    with pytest.raises(RunError, match=r"site 'a' reveals nothing: 3 sites are left"):
        reveal(played.members["a"], request)


@pytest.mark.parametrize(("sites", "threshold"), [(2, 2), (4, 2), (4, 5), (3, 0)])
def test_terms_under_which_a_single_change_could_be_learnt_are_refused(begin, sites, threshold):
    identities = {str(i): bytes(32) for i in range(sites)}
    with pytest.raises(ConfigError, match=r"expected 3 sites or more, and a threshold above half"):
        Terms("stage 1", threshold, identities)


# What a site refuses to reveal.


@pytest.fixture
def masked(begin):
    """Five sites that have masked; e has dropped out."""
    played = begin(5)
    played.meet()
    played.share()
    played.mask(words_of(5), gone="e")
    return played


def test_both_shares_of_a_site_are_never_revealed_in_one_request(masked):
    request = messages.write("request", survivors=list("abcd"), dropped=list("de"))
    with pytest.raises(KnowledgeError, match=r"reveals nothing: .*both shares of site 'd'"):
        reveal(masked.members["a"], request)


def test_nor_in_two(masked):
    first = reveal(masked.members["a"], masked.request)
    assert reveal(masked.members["a"], masked.request) == first  # asked again, nothing new
    other = messages.write("request", survivors=list("abce"), dropped=["d"])
    with pytest.raises(KnowledgeError, match=r"was asked before, with other lists .*both shares"):
        reveal(masked.members["a"], other)
    told = json.loads(first)
    assert sorted(told["seeds"]) == list("abcd")
    assert sorted(told["keys"]) == ["e"]


@pytest.mark.parametrize(
    ("survivors", "dropped", "text"),
    [
        ("abcd", "", r"site 'e' is in one of the lists alone"),
        ("abcdx", "e", r"site 'x' is in one of the lists alone"),
        ("bcde", "a", r"the server says that this site has dropped out"),
    ],
)
def test_lists_that_are_not_those_of_the_stage_are_refused(masked, survivors, dropped, text):
    request = messages.write("request", survivors=list(survivors), dropped=list(dropped))
    with pytest.raises(KnowledgeError, match=text):
        reveal(masked.members["a"], request)


def test_steps_have_an_order_and_are_done_once(begin, masked):
    member = masked.members["a"]
    for step in (lambda: share_keys(member, masked.roster), lambda: accept(member, b"")):
        with pytest.raises(KnowledgeError, match=r"a step is done once, .* needs fresh keys"):
            step()
    played = begin(3)
    played.meet()
    with pytest.raises(KnowledgeError, match=r"it has only advertised; the steps have an order"):
        accept(played.members["a"], b"")
    with pytest.raises(KnowledgeError, match=r"it has only advertised; the steps have an order"):
        reveal(played.members["a"], b"")


# Masks and keys serve once.


def test_masks_that_were_used_are_refused(begin):
    played = begin(3)
    played.meet()
    played.share()
    masks, words = accept(played.members["a"], played.delivered["a"]), words_of(3)["a"]
    stolen = copy.deepcopy(masks)
    first = mask(masks, words)
    with pytest.raises(KnowledgeError, match=r"these masks were used before"):
        mask(masks, words)
    # why: whoever sees two vectors under the same masks sees their difference
    assert (mask(stolen, words + 5) - first == 5).all()


def test_keys_of_an_earlier_stage_are_refused_by_the_server_and_by_sites(begin):
    first, second = begin(4), begin(4, session="fedavg, seed 0, stage 2")
    first.meet(seed=1)
    known = set()
    for keys in roster_keys(first.terms, first.roster, set(), "test").values():
        known |= key_marks(keys)
    for site in "abcd":  # b's source of random numbers begins anew
        entropy = _repeated(first.members["b"]) if site == "b" else random_bytes(2, site)
        second.members[site], second.adverts[site] = advertise(
            second.terms, site, second.identities[site], entropy
        )
    roster, refused = gather_keys(second.terms, second.adverts, known)
    assert list(refused) == ["b"]
    assert refused["b"].startswith(
        "refused from site 'b': its keys were used before, and masks that are used twice hide "
    )
    assert list(roster_keys(second.terms, roster, known, "test")) == ["a", "c", "d"]
    # a server that does not mind: each site does
    roster, _ = gather_keys(second.terms, second.adverts)
    for site in "ab":
        with pytest.raises(KnowledgeError, match=r"shares nothing, site 'b': its keys were used b"):
            share_keys(second.members[site], roster, known)


def _repeated(member):
    keys = iter([member.channel, member.mask])
    return lambda _: next(keys)


def test_the_same_keys_give_other_masks_in_another_stage(begin):
    found = []
    for stage in (1, 2):
        played = begin(3, session=f"fedavg, seed 0, stage {stage}")
        played.meet(seed=0)
        played.share()
        found.append(accept(played.members["a"], played.delivered["a"]).seeds)
    assert not {seed for _, seed in found[0]} & {seed for _, seed in found[1]}


def test_two_sites_with_one_key_are_refused(begin):
    played = begin(4)
    played.meet()
    twin = _repeated(played.members["a"])
    _, played.adverts["c"] = advertise(played.terms, "c", played.identities["c"], twin)
    _, refused = gather_keys(played.terms, played.adverts)
    assert list(refused) == ["c"]


# A server in the middle.


def test_keys_that_the_server_made_itself_are_refused(begin):
    played = begin(4)
    played.meet()
    _, fake = advertise(played.terms, "b", played.identities["b"], random_bytes("server"))
    fake = changed(fake, signature=json.loads(played.adverts["b"])["signature"])
    roster = changed(
        played.roster, adverts={**json.loads(played.roster)["adverts"], "b": fake.decode()}
    )
    with pytest.raises(KnowledgeError, match=r"site 'b': its keys for .*stage 1 are not signed by"):
        share_keys(played.members["a"], roster)
    _, refused = gather_keys(played.terms, {**played.adverts, "b": fake})
    assert list(refused) == ["b"]


@pytest.mark.parametrize("session", ["fedavg, seed 0, stage 2", "fedprox, seed 0, stage 1"])
def test_keys_of_another_stage_are_not_signed_for_this_one(begin, session):
    played, other = begin(4), begin(4, session=session)
    played.meet()
    other.meet(seed=5)
    _, refused = gather_keys(played.terms, {**played.adverts, "b": other.adverts["b"]})
    assert "are not signed by it" in refused["b"]


def test_a_stranger_and_a_site_under_another_name_are_refused(begin):
    played = begin(4)
    played.meet()
    adverts = {**played.adverts, "x": played.adverts["a"], "b": played.adverts["c"]}
    _, refused = gather_keys(played.terms, adverts)
    assert sorted(refused) == ["b", "x"]
    assert refused["b"] == "refused from site 'b': it says to come from 'c'"
    with pytest.raises(KnowledgeError, match=r"site 'a' has another identity than the others were"):
        advertise(played.terms, "a", bytes(32))


def test_a_roster_without_the_site_is_refused(begin):
    played = begin(4)
    played.meet()
    adverts = json.loads(played.roster)["adverts"]
    roster = messages.write("roster", adverts={s: adverts[s] for s in "bcd"})
    with pytest.raises(KnowledgeError, match=r"its own keys are not in the roster"):
        share_keys(played.members["a"], roster)


def test_sites_that_were_sent_different_rosters_cannot_open_each_others_shares(begin):
    played = begin(5)
    played.meet()
    adverts = json.loads(played.roster)["adverts"]
    small = messages.write("roster", adverts={s: adverts[s] for s in "abcd"})
    shares = {"a": share_keys(played.members["a"], played.roster)}
    shares |= {s: share_keys(played.members[s], small) for s in "bcd"}
    boxes = {s: json.loads(shares[s])["boxes"]["a"] for s in "bcd"}
    with pytest.raises(KnowledgeError, match=r"shares from site 'b' do not open; .*different ros"):
        accept(played.members["a"], messages.write("delivery", boxes=boxes))


def test_shares_that_were_changed_or_mixed_up_do_not_open(begin):
    played = begin(4)
    played.meet()
    played.share()
    boxes = json.loads(played.delivered["a"])["boxes"]
    for wrong in (
        {**boxes, "b": boxes["b"][:-2] + f"{int(boxes['b'][-2:], 16) ^ 1:02x}"},
        {**boxes, "b": boxes["c"]},
        {**boxes, "b": "no digits"},
    ):
        with pytest.raises(KnowledgeError, match=r"masks nothing: the shares from site 'b' do not"):
            accept(played.members["a"], messages.write("delivery", boxes=wrong))
    for name in "ax":
        strange = messages.write("delivery", boxes={**boxes, name: boxes["b"]})
        with pytest.raises(KnowledgeError, match=rf"was sent shares of '{name}', who is not"):
            accept(played.members["a"], strange)


# Sites that send what they should not.


def test_shares_for_the_wrong_sites_are_refused_and_named(begin):
    played = begin(4)
    played.meet()
    shares = {s: share_keys(played.members[s], played.roster) for s in "abcd"}
    boxes = json.loads(shares["d"])["boxes"]
    few = changed(shares["d"], boxes={"a": boxes["a"]})
    delivered, refused = route_shares(played.terms, played.roster, {**shares, "d": few})
    assert refused == {
        "d": "refused from site 'd': it shared its keys with 1 sites, expected each of the other 3"
    }
    assert sorted(delivered) == ["a", "b", "c"]
    assert "d" not in json.loads(delivered["a"])["boxes"]
    _, refused = route_shares(played.terms, played.roster, {**shares, "d": shares["a"]})
    assert refused["d"] == "refused from site 'd': it says to come from 'a'"


def test_an_answer_that_is_refused_is_named(begin):
    played, vectors = begin(5, threshold=3), words_of(5)
    played.meet()
    played.share()
    played.mask(vectors, gone="e")
    played.reveal()
    seeds = json.loads(played.answers["d"])["seeds"]
    for wrong, text in (
        (changed(played.answers["d"], seeds={"a": seeds["a"]}), "it revealed other shares than"),
        (changed(played.answers["d"], seeds={**seeds, "a": "00"}), "expected 66 bytes in hexadec"),
        (played.answers["a"], "it says to come from 'a'"),
        (b"{}", "expected a message of kind `unmasking`"),
        (b"[" * 10_000, "not a readable message of kind `unmasking`"),
        (changed(played.answers["d"], seeds=[]), "expected the fields site, seeds, keys in"),
        (changed(played.answers["d"], image="x"), "expected the fields site, seeds, keys in"),
        (played.answers["d"] + b" ", "`unmasking` holds more than its fields"),
    ):
        answers = {**played.answers, "d": wrong}
        total, refused = unmask(played.terms, played.roster, played.request, played.masked, answers)
        assert refused["d"].startswith(f"refused from site 'd': {text}")
        assert (total == plain_sum(vectors, "abcd")).all()


@pytest.mark.parametrize("what", ["seeds", "keys"])
def test_a_wrong_share_is_noticed(begin, what):
    played = begin(5, threshold=3)
    played.meet()
    played.share()
    played.mask(words_of(5), gone="e")
    played.reveal()
    shares = json.loads(played.answers["d"])[what]
    whose = "a" if what == "seeds" else "e"
    wrong = changed(played.answers["d"], **{what: {**shares, whose: "00" * 66}})
    played.answers["d"] = wrong
    with pytest.raises(KnowledgeError, match=rf"site '{whose}' cannot be unmasked: .*one of them"):
        played.unmask()


def test_a_key_that_is_not_the_advertised_one_is_noticed(begin):
    played = begin(4, threshold=3)
    played.meet()
    played.share()
    played.mask(words_of(4), gone="d")
    played.reveal()
    for site in "abc":  # all three shift the secret by one, which Shamir's scheme cannot see
        keys = json.loads(played.answers[site])["keys"]
        share = (int(keys["d"], 16) + 1).to_bytes(66, "big").hex()
        played.answers[site] = changed(played.answers[site], keys={"d": share})
    with pytest.raises(KnowledgeError, match=r"site 'd' do not give the key that it advertised"):
        played.unmask()


def test_a_request_names_everybody_who_shared(masked):
    assert json.loads(masked.request) == {
        "kind": "request",
        "survivors": list("abcd"),
        "dropped": ["e"],
    }
    assert ask_shares(masked.terms, "edcba", "dcbax") == masked.request


def test_what_is_signed_says_whose_and_for_which_stage(begin):
    played = begin(3)
    played.meet()
    fields = json.loads(played.adverts["a"])
    content = messages.to_sign(played.terms.session, "a", played.members["a"].keys)
    assert bytes.fromhex(fields["signature"]) == signed(played.identities["a"], content)
    assert b"stage 1" in content
