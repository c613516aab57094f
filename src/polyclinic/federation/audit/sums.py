"""What a server sees under secure aggregation: the sum, and of each site masked words.

By the protocol itself, in one process. One part can be broken on purpose: masks that serve twice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from polyclinic.federation.aggregation import WEIGHTINGS
from polyclinic.federation.secure.masking import mean_of, quantisation
from polyclinic.federation.secure.member import Masks, accept, advertise, mask, reveal, share_keys
from polyclinic.federation.secure.messages import Terms
from polyclinic.federation.secure.primitives import KEY, Words, identity_of, need, system_entropy
from polyclinic.federation.secure.quantise import Quantisation, to_mean, to_words
from polyclinic.federation.secure.server import ask_shares, gather_keys, route_shares, unmask
from polyclinic.models.state import State

Numbers = np.ndarray


@dataclass(frozen=True)
class Summed:
    """The mean of the sites' changes, and the words in which each site sent its own.

    `weight` is that of each site.
    """

    mean: State
    words: Mapping[str, Words]
    how: Quantisation
    weight: float

    def taken_for_numbers(self, site: str) -> State:
        """A site's masked words, read as if they were its change: all that there is of it alone."""
        shapes = {name: tuple(value.shape) for name, value in self.mean.items()}
        return mean_of(self.words[site], self.weight, self.how, shapes)


def summed(
    changes: Mapping[str, State], clip: float, session: str, weighting: str, examples: int
) -> Summed:
    """Add the changes of three sites or more; numbers beyond ±`clip` are cut.

    `weighting` is a key of `WEIGHTINGS`; each site has `examples` training images.
    """
    need()
    weight = WEIGHTINGS[weighting](examples)
    names = sorted(changes)
    identities = {name: system_entropy(KEY) for name in names}
    public = {name: identity_of(key) for name, key in identities.items()}
    terms = Terms(session, 2 * len(names) // 3 + 1, public)
    how = quantisation(weighting, len(names), clip)
    members, adverts = {}, {}
    for name in names:
        members[name], adverts[name] = advertise(terms, name, identities[name])
    roster, _ = gather_keys(terms, adverts)
    shares = {name: share_keys(members[name], roster) for name in names}
    delivered, _ = route_shares(terms, roster, shares)
    words = {
        name: mask(
            accept(members[name], delivered[name]), to_words(row(changes[name]), weight, how)
        )
        for name in names
    }
    request = ask_shares(terms, delivered, words)
    answers = {name: reveal(members[name], request) for name in names}
    total, _ = unmask(terms, roster, request, words, answers)
    shapes = {name: tuple(value.shape) for name, value in changes[names[0]].items()}
    return Summed(mean_of(total, weight * len(names), how, shapes), words, how, weight)


def masked_twice(
    first: State,
    second: State,
    sites: int,
    clip: float,
    session: str,
    weighting: str,
    examples: int,
    *,
    reused: bool,
) -> tuple[Words, Words, Quantisation]:
    """One site's words of two stages: with masks of their own, or, `reused`, under the same masks.

    The other sites send nothing of interest; what matters are the masks that the site shares with
    them. `weighting` and `examples` as in `summed`.
    """
    need()
    weight = WEIGHTINGS[weighting](examples)
    names = [f"site-{number}" for number in range(max(3, sites))]
    how = quantisation(weighting, len(names), clip)
    seeds = _masks(names, f"{session}, stage 1")
    again = Masks(list(seeds.seeds)) if reused else _masks(names, f"{session}, stage 2")
    one, other = (
        mask(masks, to_words(row(change), weight, how))
        for masks, change in ((seeds, first), (again, second))
    )
    return one, other, how


def difference_of(words: np.ndarray, weight: float, how: Quantisation) -> np.ndarray:
    """A difference of masked integers, (N,) signed, as numbers of a site's change."""
    return to_mean(words.astype(np.int64).astype(f"u{how.bits // 8}"), weight, how)


def row(change: State) -> Numbers:
    """All numbers of a change, (N,), in the order of the tensors' names."""
    parts = [change[name].detach().cpu().numpy().ravel() for name in sorted(change)]
    return np.concatenate([np.zeros(0, np.float32), *parts])


def as_state(tensors: Sequence[torch.Tensor]) -> State:
    """Tensors without names as a change, in their order."""
    return {f"{number:04d}": value.detach().cpu() for number, value in enumerate(tensors)}


def _masks(names: list[str], session: str) -> Masks:
    """The masks of the first site in a fresh stage."""
    identities = {name: system_entropy(KEY) for name in names}
    public = {name: identity_of(key) for name, key in identities.items()}
    terms = Terms(session, 2 * len(names) // 3 + 1, public)
    members, adverts = {}, {}
    for name in names:
        members[name], adverts[name] = advertise(terms, name, identities[name])
    roster, _ = gather_keys(terms, adverts)
    shares = {name: share_keys(members[name], roster) for name in names}
    delivered, _ = route_shares(terms, roster, shares)
    return accept(members[names[0]], delivered[names[0]])
