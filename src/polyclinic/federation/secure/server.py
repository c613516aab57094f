"""The server's side of secure aggregation (Bonawitz et al. 2017, figure 4, without its round 3).

    gather_keys -> route_shares -> ask_shares -> unmask

Pure functions. Each is given what the sites sent, and stops with a `RunError` where fewer than the
threshold did. A site whose message is refused has dropped out; the reasons come back by its name.
"""

from collections.abc import Collection, Mapping, Set

from polyclinic.errors import KnowledgeError, RunError
from polyclinic.federation.secure import messages
from polyclinic.federation.secure.member import add_mask, pair_sign
from polyclinic.federation.secure.messages import Terms, pair_seed
from polyclinic.federation.secure.primitives import KEY, Bits, Words, derived, public_of
from polyclinic.federation.secure.shamir import SHARE, joined

Refused = dict[str, str]
"""Site to the reason why its message was refused."""


def gather_keys(
    terms: Terms, adverts: Mapping[str, bytes], known: Set[str] = frozenset()
) -> tuple[bytes, Refused]:
    """Round 0: the roster to send to all whose keys are good. `known` marks keys of before."""
    good: dict[str, str] = {}
    refused: Refused = {}
    marks = set(known)
    for site, message in sorted(adverts.items()):
        who = _refused(site)
        try:
            fields = messages.read(message, "keys", who)
            keys = messages.checked_keys(terms, site, fields, marks, who)
        except KnowledgeError as error:
            refused[site] = str(error)
            continue
        marks |= messages.key_marks(keys)
        good[site] = message.decode("ascii")
    _enough(terms, good, "advertised keys")
    return messages.write("roster", adverts=good), refused


def route_shares(
    terms: Terms, roster: bytes, sent: Mapping[str, bytes]
) -> tuple[dict[str, bytes], Refused]:
    """Round 1: what to deliver to each site that shared; sealed, so that the server cannot read it.

    A site must have sealed a share for every other one in the roster.
    """
    names = messages.read(roster, "roster", "the roster")["adverts"].keys()
    boxes: dict[str, Mapping[str, str]] = {}
    refused: Refused = {}
    for site, message in sorted(sent.items()):
        who = _refused(site)
        try:
            fields = messages.read(message, "shares", who)
            if fields["site"] != site or site not in names:
                raise KnowledgeError(f"{who}: it says to come from '{fields['site']}'")
            if fields["boxes"].keys() != names - {site}:
                raise KnowledgeError(
                    f"{who}: it shared its keys with {len(fields['boxes'])} sites, expected each "
                    f"of the other {len(names) - 1}"
                )
        except KnowledgeError as error:
            refused[site] = str(error)
            continue
        boxes[site] = fields["boxes"]
    _enough(terms, boxes, "shared keys")
    delivered = {
        site: messages.write(
            "delivery", boxes={sender: box[site] for sender, box in boxes.items() if sender != site}
        )
        for site in boxes
    }
    return delivered, refused


def ask_shares(terms: Terms, shared: Collection[str], masked: Collection[str]) -> bytes:
    """Round 2: who of those that `shared` keys sent a masked vector, and who did not: a request."""
    survivors = sorted(set(masked) & set(shared))
    _enough(terms, survivors, "sent a masked change")
    dropped = sorted(set(shared) - set(survivors))
    return messages.write("request", survivors=survivors, dropped=dropped)


def unmask(
    terms: Terms,
    roster: bytes,
    request: bytes,
    masked: Mapping[str, Words],
    revealed: Mapping[str, bytes],
) -> tuple[Words, Refused]:
    """Round 3: the sum of the survivors' words, (N,), and whose shares were refused.

    `masked` has the vector of each survivor; `revealed` what they answered to `request`.
    `KnowledgeError` where shares do not fit together: then somebody sent a wrong one.
    """
    keys = messages.roster_keys(terms, roster, frozenset(), "the roster")
    about = messages.context(terms, roster)
    points = {site: number for number, site in enumerate(sorted(keys), start=1)}
    asked = messages.read(request, "request", "the request")
    survivors, dropped = asked["survivors"], asked["dropped"]
    seeds: dict[str, dict[int, bytes]] = {site: {} for site in survivors}
    private: dict[str, dict[int, bytes]] = {site: {} for site in dropped}
    refused: Refused = {}
    answered = []
    for site, message in sorted(revealed.items()):
        who = _refused(site)
        try:
            fields = messages.read(message, "unmasking", who)
            if fields["site"] != site or site not in survivors:
                raise KnowledgeError(f"{who}: it says to come from '{fields['site']}'")
            if fields["seeds"].keys() != seeds.keys() or fields["keys"].keys() != private.keys():
                raise KnowledgeError(f"{who}: it revealed other shares than it was asked for")
            found = [
                (table, name, messages.unhex(text, SHARE, who))
                for table, texts in ((seeds, fields["seeds"]), (private, fields["keys"]))
                for name, text in texts.items()
            ]
        except KnowledgeError as error:
            refused[site] = str(error)
            continue
        for table, name, share in found:
            table[name][points[site]] = share
        answered.append(site)
    _enough(terms, answered, "revealed shares")
    total = sum_of(masked, survivors)
    bits: Bits = 64 if total.itemsize == 8 else 32
    for site in survivors:
        seed = _joined(terms, seeds[site], site)
        add_mask(total, -1, derived(seed, about + b"\0own"), bits)
    for gone in dropped:
        key = _joined(terms, private[gone], gone)
        if public_of(key) != keys[gone].mask:
            raise KnowledgeError(
                f"{terms.session}: the shares of site '{gone}' do not give the key that it "
                "advertised; the stage cannot be unmasked"
            )
        for site in survivors:
            seed = pair_seed(key, keys[site].mask, about, site, gone)
            add_mask(total, -pair_sign(site, gone), seed, bits)
    return total, refused


def sum_of(masked: Mapping[str, Words], survivors: Collection[str]) -> Words:
    """The sum of the survivors' masked words, modulo what their type holds."""
    first, *rest = survivors
    total = masked[first].copy()
    for site in rest:
        total += masked[site]
    return total


def _joined(terms: Terms, shares: Mapping[int, bytes], site: str) -> bytes:
    try:
        return joined(shares, terms.threshold, KEY)
    except KnowledgeError as error:
        raise KnowledgeError(
            f"{terms.session}: site '{site}' cannot be unmasked: {error}"
        ) from None


def _refused(site: str) -> str:
    return f"refused from site '{site}'"


def _enough(terms: Terms, sites: Collection[str], did: str) -> None:
    if len(sites) < terms.threshold:
        raise RunError(
            f"{terms.session}: {len(sites)} of {len(terms.identities)} sites {did}, expected at "
            f"least {terms.threshold} (federation.secure_threshold); nothing is unmasked: resume "
            "when more of them are there"
        )
