"""The part that methods and sites play in the results: what leads, and who took part."""

from collections.abc import Collection, Iterable

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


def who_took_part(present: Collection[str], absent: Collection[str]) -> str:
    """Who trained in a stage, in words that leave nobody out.

    >>> who_took_part(["blood", "chest"], ["skin", "retina"])
    '2 of 4: skin, retina absent'
    >>> who_took_part(["blood", "chest"], [])
    '2 of 2'
    """
    missing = f": {', '.join(absent)} absent" if absent else ""
    return f"{len(present)} of {len(present) + len(absent)}{missing}"
