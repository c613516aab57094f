"""A site that is killed between rounds goes on from its record, and can do no more than before."""

import json

import pytest

from polyclinic.errors import KnowledgeError
from polyclinic.federation.secure.keeping import from_record, to_record
from polyclinic.federation.secure.member import accept, advertise, mask, reveal, share_keys
from polyclinic.federation.secure.messages import Terms, write
from polyclinic.federation.secure.primitives import identity_of, keystream, system_entropy
from polyclinic.federation.secure.server import ask_shares, gather_keys, route_shares, unmask

SITES = ("a", "b", "c", "d")


def killed(member):
    """The member as its site finds it on the disk."""
    return from_record(json.loads(json.dumps(to_record(member))), member.terms)


@pytest.fixture
def terms_and_identities():
    identities = {site: system_entropy(32) for site in SITES}
    return Terms("stage 1", 3, {s: identity_of(k) for s, k in identities.items()}), identities


def test_killed_after_every_step_the_sum_is_the_same(terms_and_identities):
    terms, identities = terms_and_identities
    members, adverts = {}, {}
    for site in SITES:
        members[site], adverts[site] = advertise(terms, site, identities[site])
    roster, _ = gather_keys(terms, adverts)
    members = {site: killed(member) for site, member in members.items()}
    shares = {site: share_keys(member, roster) for site, member in members.items()}
    delivered, _ = route_shares(terms, roster, shares)
    members = {site: killed(member) for site, member in members.items()}
    words = {site: keystream(site.encode() * 32, 5, 32) for site in SITES}
    masked = {
        site: mask(accept(members[site], delivered[site]), words[site]) for site in ("a", "b", "c")
    }
    request = ask_shares(terms, delivered, masked)
    members = {site: killed(member) for site, member in members.items()}
    answers = {site: reveal(members[site], request) for site in masked}
    total, refused = unmask(terms, roster, request, masked, answers)
    assert refused == {}
    assert (total == words["a"] + words["b"] + words["c"]).all()
    # what it has given is remembered: the other share of d, or of a, is not to be had
    again = killed(members["a"])
    assert reveal(again, request) == answers["a"]
    for survivors, dropped in ((["a", "b", "c", "d"], []), (["a", "b", "d"], ["c"])):
        other = write("request", survivors=survivors, dropped=dropped)
        with pytest.raises(KnowledgeError, match=r"it was asked before, with other lists of sites"):
            reveal(killed(members["a"]), other)


def test_a_step_is_not_done_again_after_a_kill(terms_and_identities):
    terms, identities = terms_and_identities
    made = {site: advertise(terms, site, identities[site]) for site in SITES}
    roster, _ = gather_keys(terms, {site: advert for site, (_, advert) in made.items()})
    member = made["a"][0]
    share_keys(member, roster)
    with pytest.raises(KnowledgeError, match=r"it has shared already|a stage that is"):
        share_keys(killed(member), roster)


@pytest.mark.parametrize("damage", [{"channel": 3}, {"held": []}, {"seed": "xy"}])
def test_a_record_that_is_none_is_refused(terms_and_identities, damage):
    terms, identities = terms_and_identities
    member, _ = advertise(terms, "a", identities["a"])
    with pytest.raises(KnowledgeError, match=r"kept of its exchange cannot be read"):
        from_record({**to_record(member), **damage}, terms)
