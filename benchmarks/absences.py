"""Sites of this process of which some take no part in some stages."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from polyclinic.data.dataset import SiteData
from polyclinic.errors import RunError
from polyclinic.federation.workers import Work, Workers


class Present(Workers):
    """`absent(stage, site)` says who is away from which stage; stages are counted from 1."""

    def __init__(self, sites: Mapping[str, SiteData], absent: Callable[[int, str], bool]) -> None:
        super().__init__(sites)
        self.absent = absent

    def map(
        self, work: Work, tasks: Sequence[tuple[str, tuple[Any, ...]]]
    ) -> Iterator[tuple[str, Any]]:
        """As `Workers.map`; who is away fails."""
        for name, given in tasks:
            _, _, done, _ = given[5]  # seed, method, stages that are done, site
            if self.absent(done + 1, name):
                yield name, RunError("left out on purpose")
            else:
                yield from super().map(work, [(name, given)])
