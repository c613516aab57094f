"""What the server sees of a site: words that are as likely as any others, whatever was sent.

Random numbers repeat, so these tests decide the same each time. They are about single vectors: that
the generator cannot be told from chance is an assumption, tested elsewhere by better means.
"""

import json

import numpy as np
import pytest
from scipy import stats

from polyclinic.errors import RunError
from polyclinic.federation.secure import messages
from polyclinic.federation.secure.member import accept, add_mask, pair_sign, reveal
from polyclinic.federation.secure.messages import Terms
from polyclinic.federation.secure.primitives import derived
from polyclinic.federation.secure.quantise import Quantisation, to_words
from polyclinic.federation.secure.server import ask_shares, sum_of, unmask
from polyclinic.federation.secure.shamir import SHARE, joined

COUNT = 40_000
HOW = Quantisation(sites=4, clip=1.0)
UNLIKELY = 1e-4
"""A p-value below it says that numbers are not what they should be."""


def updates(kind):
    """Words of four sites. `kind` is of a's update; those of the others make up for it."""
    numbers = np.zeros(COUNT, np.float32)
    if kind == "ones":
        numbers[:] = 1.0
    if kind == "image":
        numbers[:] = np.tile(np.linspace(-1, 1, 100), COUNT // 100)
    own = to_words(numbers, 1.0, HOW)
    return {"a": own, "b": np.zeros_like(own) - own, "c": np.zeros_like(own), "d": own * 0 + 7}


def uniform(words):
    """p-values of chi-square tests: is each byte of the words as likely as any other?"""
    rows = words.astype(f"<u{words.itemsize}").view(np.uint8).reshape(-1, words.itemsize)
    return [stats.chisquare(np.bincount(byte, minlength=256)).pvalue for byte in rows.T]


def together(one, other):
    """p-value of the independence of two rows of words, by four bits of each."""
    table = np.zeros((16, 16))
    np.add.at(table, (one >> 28, other >> 28), 1)
    return stats.chi2_contingency(table).pvalue


@pytest.mark.parametrize("kind", ["zeros", "ones", "image"])
def test_the_words_of_a_site_are_uniform_whatever_it_sends(play, kind):
    sent = updates(kind)
    played = play(sent, gone=((), (), "d", ()))
    for site, words in played.masked.items():
        assert min(uniform(words)) > UNLIKELY, site
        if len(np.unique(sent[site])) > 1:
            assert together(words, sent[site] * np.uint32(2654435761)) > UNLIKELY, site
        assert not (words == sent[site]).mean() > 1e-3
    assert min(uniform(played.masked["a"] - sent["a"])) > UNLIKELY
    assert max(uniform(sent["a"])) < UNLIKELY  # so the test finds what is not uniform


def test_words_of_64_bits_are_uniform_too(play):
    sent = {s: v.astype(np.uint64) for s, v in updates("ones").items()}
    assert min(uniform(play(sent).masked["a"])) > UNLIKELY


def test_two_updates_give_one_distribution_of_the_view(play):
    views = [play(updates(kind), seed=kind).masked for kind in ("zeros", "image")]
    for site in "abcd":
        counts = [np.bincount(view[site] >> 24, minlength=256) for view in views]
        assert stats.chi2_contingency(np.stack(counts)).pvalue > UNLIKELY
    for view in views:  # neither are two sites' words related, though their masks are
        assert together(view["a"], view["b"]) > UNLIKELY
        assert min(uniform(view["a"] + view["b"])) > UNLIKELY
    sums = [sum_of(view, "abcd") for view in views]
    assert not (sums[0] == sums[1]).all()


def test_with_the_same_masks_the_difference_of_two_updates_is_plain(play):
    # the planted failure: the same random numbers twice, so the same masks
    one, two = (play(updates(kind), seed=0).masked["a"] for kind in ("zeros", "image"))
    difference = two - one
    assert (difference == updates("image")["a"]).all()
    assert max(uniform(difference)) < UNLIKELY


# The whole view of the server, and what can be done with it.


def view_of(played):
    """Everything that passes the server in a stage, without the vectors."""
    return [
        *played.adverts.values(),
        played.roster,
        *played.shares.values(),
        *played.delivered.values(),
        played.request,
        *played.answers.values(),
    ]


@pytest.fixture
def played(begin):
    """Five sites with a threshold of 4, e gone before it masked; nobody has revealed anything."""
    played = begin(5, threshold=4)
    played.meet()
    played.share()
    sent = updates("image")
    played.mask({**sent, "e": sent["c"]}, gone="e")
    return played


def test_no_secret_passes_the_server(played):
    played.reveal()
    seen = b"".join(view_of(played))
    for member in played.members.values():
        for secret in (member.channel, member.mask, member.seed):
            assert len(secret) == 32
            assert secret.hex().encode() not in seen
    # of each site at most one kind of share
    for answer in played.answers.values():
        fields = json.loads(answer)
        assert not fields["seeds"].keys() & fields["keys"].keys()


def test_fewer_shares_than_the_threshold_unmask_nothing(played):
    played.reveal(gone="d")
    assert sorted(played.answers) == ["a", "b", "c"]
    with pytest.raises(RunError, match=r"3 of 5 sites revealed shares, expected at least 4"):
        played.unmask()
    # a server that goes on regardless, as if 3 were enough
    shares = {
        point: bytes.fromhex(json.loads(played.answers[site])["seeds"]["a"])
        for point, site in enumerate("abc", start=1)
    }
    about = messages.context(played.terms, played.roster)
    low = joined_or_not(shares, 3)
    total = played.masked["a"].copy()
    add_mask(total, -1, derived(low, about + b"\0own"), 32)
    assert min(uniform(total)) > UNLIKELY


def joined_or_not(shares, threshold):
    """32 bytes of what Lagrange's formula gives, whether it is a key or not."""
    return joined(shares, threshold, SHARE)[-32:]


def test_all_shares_but_of_one_kind_leave_each_vector_masked(played):
    """The whole of what an honest server gets: the sum, and of no site its own vector."""
    played.reveal()
    total = played.unmask()
    assert (total == sum_of({**updates("image")}, "abcd")).all()
    about = messages.context(played.terms, played.roster)
    for site in "abcd":
        point_shares = {
            point: bytes.fromhex(json.loads(played.answers[name])["seeds"][site])
            for point, name in enumerate("abcd", start=1)
        }
        seed = joined(point_shares, 4, 32)
        assert seed == played.members[site].seed  # the server may know this
        rest = played.masked[site].copy()
        add_mask(rest, -1, derived(seed, about + b"\0own"), 32)
        # e's key is known as well; the masks shared with the three others are not
        key = played.members["e"].mask
        keys = messages.roster_keys(played.terms, played.roster, set(), "test")
        pair = messages.pair_seed(key, keys[site].mask, about, site, "e")
        add_mask(rest, -pair_sign(site, "e"), pair, 32)
        assert min(uniform(rest)) > UNLIKELY


def test_a_late_vector_stays_masked_though_the_key_of_its_site_is_known(played):
    """Why there are two masks: e was given up, its key was revealed, and then its vector comes."""
    masks = accept_again(played)
    late = updates("image")["c"].copy()
    for sign, seed in masks:
        add_mask(late, sign, seed, 32)
    about = messages.context(played.terms, played.roster)
    keys = messages.roster_keys(played.terms, played.roster, set(), "test")
    for site in "abcd":  # the server takes off all that e's key tells
        pair = messages.pair_seed(played.members["e"].mask, keys[site].mask, about, "e", site)
        add_mask(late, -pair_sign("e", site), pair, 32)
    assert min(uniform(late)) > UNLIKELY
    add_mask(late, -1, derived(played.members["e"].seed, about + b"\0own"), 32)
    assert (late == 0).all()  # the one mask that was left is the site's own


def accept_again(played):
    return accept(played.members["e"], played.delivered["e"]).seeds


@pytest.mark.parametrize("sites", [5, 6, 7, 9, 12])
def test_a_server_that_tells_sites_different_lists_never_gets_both_secrets(begin, sites):
    """With the default threshold, also where it colludes with as many sites as may be absent."""
    threshold = 2 * sites // 3 + 1
    colluding = sites - threshold
    honest = sites - colluding
    most_of_one_kind = [colluding + told for told in range(honest + 1)]
    assert all(
        min(seeds, colluding + honest - (seeds - colluding)) < threshold
        for seeds in most_of_one_kind
    )


def test_the_lie_tried(begin):
    """Some sites are told that a is there, some that it is gone: neither secret comes out."""
    played = begin(5, threshold=4)
    played.meet()
    played.share()
    sent = updates("image")
    played.mask({**sent, "e": sent["c"]})
    there = ask_shares(played.terms, "abcde", "abcde")
    gone = ask_shares(played.terms, "abcde", "bcde")
    answers = {s: reveal(played.members[s], there if s in "abc" else gone) for s in "abcde"}
    seeds = [s for s in answers if "a" in json.loads(answers[s])["seeds"]]
    keys = [s for s in answers if "a" in json.loads(answers[s])["keys"]]
    assert max(len(seeds), len(keys)) < 4
    for request in (there, gone):
        with pytest.raises(RunError, match=r"sites revealed shares, expected at least 4"):
            unmask(played.terms, played.roster, request, played.masked, answers)


def test_a_threshold_of_half_the_sites_would_let_it_through():
    with pytest.raises(Exception, match=r"a threshold above half"):
        Terms("stage 1", 2, {str(i): bytes(32) for i in range(4)})
