"""The site's side of secure aggregation (Bonawitz et al. 2017, figure 4, without its round 3).

    advertise -> share_keys -> accept, mask -> reveal

A `Member` is a site in one stage, and lives no longer. It remembers how far it is, because each
step done twice would show something: so it changes as it goes, unlike most of what is here.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Literal

from polyclinic.errors import KnowledgeError, RunError
from polyclinic.federation.secure import messages
from polyclinic.federation.secure.messages import Keys, Terms, channel_key, pair_seed
from polyclinic.federation.secure.primitives import (
    KEY,
    Bits,
    Entropy,
    Words,
    derived,
    identity_of,
    keystream,
    opened,
    public_of,
    sealed,
    signed,
    system_entropy,
)
from polyclinic.federation.secure.shamir import SHARE, split

Step = Literal["advertised", "shared", "accepted", "revealed"]


@dataclass
class Member:
    """What a site keeps during a stage; what leaves of it, the functions below return."""

    terms: Terms
    site: str
    entropy: Entropy = field(repr=False)
    channel: bytes = field(repr=False)  # private keys
    mask: bytes = field(repr=False)
    step: Step = "advertised"
    peers: Mapping[str, Keys] = field(default_factory=dict)
    about: bytes = b""  # the context of all keys
    seed: bytes = field(default=b"", repr=False)  # of the site's own mask
    held: dict[str, tuple[bytes, bytes]] = field(default_factory=dict, repr=False)
    asked: bytes = b""

    @property
    def keys(self) -> Keys:
        """The public halves."""
        return Keys(public_of(self.channel), public_of(self.mask))


@dataclass
class Masks:
    """The seeds of a site's masks, each with its sign. `mask` takes them out: they serve once."""

    seeds: list[tuple[int, bytes]] = field(repr=False)


def advertise(
    terms: Terms, site: str, identity: bytes, entropy: Entropy = system_entropy
) -> tuple[Member, bytes]:
    """Round 0: fresh keys for this stage, signed with the site's private Ed25519 key `identity`.

    Returns the site's state and the message to the server.
    """
    if terms.identities.get(site) != identity_of(identity):
        raise KnowledgeError(f"site '{site}' has another identity than the others were told")
    member = Member(terms, site, entropy, channel=entropy(KEY), mask=entropy(KEY))
    keys = member.keys
    signature = signed(identity, messages.to_sign(terms.session, site, keys))
    message = messages.write(
        "keys",
        site=site,
        channel=keys.channel.hex(),
        mask=keys.mask.hex(),
        signature=signature.hex(),
    )
    return member, message


def share_keys(member: Member, roster: bytes, known: Set[str] = frozenset()) -> bytes:
    """Round 1: a share of the own mask's seed, and of the masking key, sealed for each site.

    `roster` is what the server gathered in round 0; `known` marks the keys of earlier stages.
    """
    who = f"site '{member.site}' shares nothing"
    _expect(member, "advertised", who)
    peers = messages.roster_keys(member.terms, roster, known, who)
    if peers.get(member.site) != member.keys:
        raise KnowledgeError(f"{who}: its own keys are not in the roster that it was sent")
    _enough(member, len(peers), who)
    names = sorted(peers)
    points = range(1, len(names) + 1)
    threshold, entropy = member.terms.threshold, member.entropy
    member.seed = entropy(KEY)
    seeds = split(member.seed, points, threshold, entropy)
    keys = split(member.mask, points, threshold, entropy)
    member.peers, member.about = peers, messages.context(member.terms, roster)
    boxes = {}
    for name, seed_share, key_share in zip(names, seeds, keys, strict=True):
        if name == member.site:
            member.held[name] = seed_share, key_share
            continue
        key = channel_key(member.channel, peers[name].channel, member.about, member.site, name)
        boxes[name] = sealed(key, seed_share + key_share, member.about, entropy).hex()
    member.step = "shared"
    return messages.write("shares", site=member.site, boxes=boxes)


def accept(member: Member, delivery: bytes) -> Masks:
    """Round 2, first half: open what the others shared; the masks of this site, to be used once."""
    who = f"site '{member.site}' masks nothing"
    _expect(member, "shared", who)
    boxes = messages.read(delivery, "delivery", who)["boxes"]
    if strange := sorted(boxes.keys() - member.peers.keys() | boxes.keys() & {member.site}):
        raise KnowledgeError(
            f"{who}: it was sent shares of '{strange[0]}', who is not in the roster"
        )
    _enough(member, len(boxes) + 1, who)
    held = dict(member.held)
    seeds = [(1, derived(member.seed, member.about + b"\0own"))]
    for name, box in sorted(boxes.items()):
        peer = member.peers[name]
        key = channel_key(member.channel, peer.channel, member.about, name, member.site)
        try:
            content = opened(key, bytes.fromhex(box), member.about)
        except (KnowledgeError, ValueError):
            raise KnowledgeError(
                f"{who}: the shares from site '{name}' do not open; they were changed on the way, "
                "or the server sent the two sites different rosters"
            ) from None
        if len(content) != 2 * SHARE:
            raise KnowledgeError(f"{who}: site '{name}' shared something else than two shares")
        held[name] = content[:SHARE], content[SHARE:]
        seed = pair_seed(member.mask, peer.mask, member.about, member.site, name)
        seeds.append((pair_sign(member.site, name), seed))
    member.held, member.step = held, "accepted"
    return Masks(seeds)


def mask(masks: Masks, words: Words) -> Words:
    """Round 2, second half: words, (N,), plus all masks; `KnowledgeError` where they served before.

    Two vectors under the same masks would show their difference.
    """
    if not masks.seeds:
        raise KnowledgeError(
            "these masks were used before; a vector needs masks of its own, from a new stage"
        )
    seeds, masks.seeds = masks.seeds, []
    bits: Bits = 64 if words.itemsize == 8 else 32
    total = words.copy()
    for sign, seed in seeds:
        add_mask(total, sign, seed, bits)
    return total


def reveal(member: Member, request: bytes) -> bytes:
    """Round 3: of each survivor the share of its seed, of each that dropped out that of its key.

    Never both of one site: with the two, a server could take the masks off its vector. So whoever
    asks for both is refused, and so is a second, different request.
    """
    who = f"site '{member.site}' reveals nothing"
    if member.step == "revealed":
        if request != member.asked:
            raise KnowledgeError(
                f"{who}: it was asked before, with other lists of sites; both shares of a site "
                "would become known"
            )
    else:
        _expect(member, "accepted", who)
    fields = messages.read(request, "request", who)
    survivors, dropped = set(fields["survivors"]), set(fields["dropped"])
    if both := sorted(survivors & dropped):
        raise KnowledgeError(f"{who}: it was asked for both shares of site '{both[0]}'")
    if survivors | dropped != member.held.keys():
        other = sorted((survivors | dropped) ^ member.held.keys())[0]
        raise KnowledgeError(
            f"{who}: site '{other}' is in one of the lists alone: those who shared keys, or those "
            "that it was asked about"
        )
    if member.site not in survivors:
        raise KnowledgeError(f"{who}: the server says that this site has dropped out")
    _enough(member, len(survivors), who)
    member.asked, member.step = request, "revealed"
    return messages.write(
        "unmasking",
        site=member.site,
        seeds={name: member.held[name][0].hex() for name in survivors},
        keys={name: member.held[name][1].hex() for name in dropped},
    )


def pair_sign(site: str, peer: str) -> int:
    """Whether `site` adds the mask that it shares with `peer`, or takes it away: they cancel."""
    return 1 if site > peer else -1


def add_mask(total: Words, sign: int, seed: bytes, bits: Bits) -> None:
    """Add a mask to `total`, or with a sign of -1 subtract it, modulo 2**`bits`."""
    words = keystream(seed, total.size, bits)
    if sign > 0:
        total += words
    else:
        total -= words


def _expect(member: Member, step: Step, who: str) -> None:
    if member.step != step:
        raise KnowledgeError(
            f"{who}: it has {member.step} already; a step is done once, and a stage that is "
            "done again needs fresh keys"
            if step == "advertised" or member.step in ("accepted", "revealed")
            else f"{who}: it has only {member.step}; the steps have an order"
        )


def _enough(member: Member, number: int, who: str) -> None:
    if number < member.terms.threshold:
        raise RunError(
            f"{who}: {number} sites are left, expected at least {member.terms.threshold} "
            "(federation.secure_threshold)"
        )
