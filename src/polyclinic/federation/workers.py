"""Where the sites' work runs: in this process, or several sites at a time in processes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import torch

from polyclinic.data.dataset import SiteData
from polyclinic.errors import PolyclinicError

Work = Callable[..., Any]
"""(site, *arguments) -> result; a module-level function, so that it can be sent to a process."""


class Workers:
    """Runs a function for many sites; use as a context manager.

    With `jobs` above 1, each process holds a copy of all sites' data and an equal share of the
    threads. The number of threads is part of what a bit-identical repetition needs.
    """

    def __init__(self, sites: Mapping[str, SiteData], jobs: int = 1) -> None:
        self.sites = sites
        self.jobs = min(jobs, len(sites))
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Workers":
        if self.jobs > 1:
            threads = max(1, torch.get_num_threads() // self.jobs)
            self._pool = ProcessPoolExecutor(
                self.jobs, get_context("spawn"), _start, (dict(self.sites), threads)
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def map(
        self, work: Work, tasks: Sequence[tuple[str, tuple[Any, ...]]]
    ) -> Iterator[tuple[str, Any]]:
        """Yield (site, result) in the order of `tasks`; a `PolyclinicError` comes as the result.

        Other exceptions are bugs and are raised.
        """
        if self._pool is None:
            for name, arguments in tasks:
                yield name, _guarded(work, self.sites[name], arguments)
            return
        futures: list[tuple[str, Future[Any]]] = [
            (name, self._pool.submit(_remote, work, name, arguments)) for name, arguments in tasks
        ]
        for name, future in futures:
            yield name, future.result()


_SITES: dict[str, SiteData] = {}


def _start(sites: dict[str, SiteData], threads: int) -> None:
    torch.set_num_threads(threads)
    _SITES.update(sites)


def _remote(work: Work, name: str, arguments: tuple[Any, ...]) -> Any:
    return _guarded(work, _SITES[name], arguments)


def _guarded(work: Work, site: SiteData, arguments: tuple[Any, ...]) -> Any:
    try:
        return work(site, *arguments)
    except PolyclinicError as error:
        return error
