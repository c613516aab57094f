"""The part that a method plays in the results: what is measured over what, and what leads."""

from collections.abc import Iterable

BASELINES = ("local", "mim")
"""What every other method's gain is measured over."""
REFERENCE = "centralised"
"""Pools the images of all sites, which a federation must not do: shown, never marked as best."""


def lead_method(names: Iterable[str]) -> str | None:
    """The method that the results are about: the first that is neither baseline nor reference.

    >>> lead_method(["local", "fedavg", "universal"])
    'fedavg'
    """
    return next((name for name in names if name not in (*BASELINES, REFERENCE)), None)
