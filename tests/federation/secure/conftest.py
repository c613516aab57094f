"""The four rounds played from beginning to end, with random numbers that repeat."""

import random
from dataclasses import dataclass, field

import pytest

from polyclinic.federation.secure.member import accept, advertise, mask, reveal, share_keys
from polyclinic.federation.secure.messages import Terms
from polyclinic.federation.secure.primitives import identity_of
from polyclinic.federation.secure.server import ask_shares, gather_keys, route_shares, unmask


def entropy_of(*seed):
    """Random bytes that are the same in every test run; never for real use."""
    return random.Random(repr(seed)).randbytes


@dataclass
class Play:
    """A stage of secure aggregation: what the sites keep, and all that the server sees."""

    terms: Terms
    identities: dict
    members: dict = field(default_factory=dict)
    adverts: dict = field(default_factory=dict)
    roster: bytes = b""
    shares: dict = field(default_factory=dict)
    delivered: dict = field(default_factory=dict)
    masked: dict = field(default_factory=dict)
    request: bytes = b""
    answers: dict = field(default_factory=dict)
    total: object = None

    def meet(self, seed=0, gone=()):
        for site in self.terms.identities.keys() - gone:
            self.members[site], self.adverts[site] = advertise(
                self.terms, site, self.identities[site], entropy_of(seed, site)
            )
        self.roster, refused = gather_keys(self.terms, self.adverts)
        assert refused == {}

    def share(self, gone=()):
        self.shares = {
            s: share_keys(self.members[s], self.roster) for s in self.adverts.keys() - gone
        }
        self.delivered, refused = route_shares(self.terms, self.roster, self.shares)
        assert refused == {}

    def mask(self, vectors, gone=()):
        for site in sorted(self.delivered.keys() - gone):
            masks = accept(self.members[site], self.delivered[site])
            self.masked[site] = mask(masks, vectors[site])
        # a site that is gone may have got its shares; whoever has not sent a vector has dropped out
        self.request = ask_shares(self.terms, self.delivered, self.masked)

    def reveal(self, gone=()):
        for site in self.masked.keys() - gone:
            self.answers[site] = reveal(self.members[site], self.request)

    def unmask(self):
        self.total, refused = unmask(
            self.terms, self.roster, self.request, self.masked, self.answers
        )
        assert refused == {}
        return self.total


@pytest.fixture(scope="session")
def begin():
    """(number of sites, threshold, session) -> `Play` at its beginning; sites are a, b, c, ..."""

    def make(sites, threshold=None, session="fedavg, seed 0, stage 1"):
        names = [chr(ord("a") + i) for i in range(sites)]
        identities = {name: entropy_of("identity", name)(32) for name in names}
        public = {name: identity_of(key) for name, key in identities.items()}
        return Play(Terms(session, threshold or 2 * sites // 3 + 1, public), identities)

    return make


@pytest.fixture(scope="session")
def play(begin):
    """(vectors, threshold, seed, gone) -> a whole `Play`; `gone` has the absent of each round."""

    def run(vectors, threshold=None, seed=0, gone=((), (), (), ())):
        played = begin(len(vectors), threshold)
        played.meet(seed, set(gone[0]))
        played.share(set(gone[1]))
        played.mask(vectors, set(gone[2]))
        played.reveal(set(gone[3]))
        played.unmask()
        return played

    return run
