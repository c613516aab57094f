"""Where the sites' work runs: in this process, or several sites at a time in processes."""

import multiprocessing
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Protocol

import torch

from polyclinic.data.dataset import SiteData
from polyclinic.data.processes import bind_to_parent, interrupts_held
from polyclinic.errors import PolyclinicError, RunError
from polyclinic.models.device import fixed_precision, precision
from polyclinic.models.memory import peak_memory

Work = Callable[..., Any]
"""(site, *arguments) -> result; a module-level function, so that it can be sent to a process."""


class SiteWork(Protocol):
    """Where the sites' work is done: `Workers` on this machine, or what reaches theirs."""

    @property
    def names(self) -> Sequence[str]:
        """The sites, in the configuration's order."""

    @property
    def sites(self) -> Mapping[str, SiteData]:
        """Their data, for methods that pool them; `RunError` where the data are elsewhere."""

    def map(
        self, work: Work, tasks: Sequence[tuple[str, tuple[Any, ...]]]
    ) -> Iterator[tuple[str, Any]]:
        """Yield (site, result) in the order of `tasks`; a `PolyclinicError` comes as the result."""

    @property
    def quorum(self) -> int:
        """Sites without which no stage ends."""

    def visit(self, work: Work, name: str, given: tuple[Any, ...]) -> Any:
        """The result of a single site; `AbsentError` as the result where it is not there."""

    def rounds(self, tasks: Mapping[str, tuple[Any, ...]], folder: Path) -> Any:
        """The sites in secure aggregation (`secure.stage.Rounds`); None where they are here.

        `tasks` has what each would be given to train; `folder` is where the server remembers.
        """


class Workers:
    """Runs a function for many sites; use as a context manager.

    With `jobs` above 1, each process holds a copy of all sites' data and an equal share of the
    threads. The number of threads is part of what a bit-identical repetition needs. The precision
    is this process's: it is sent along with the work.

    `peak_mib` is the peak resident memory of the largest process so far, 0 without processes;
    whoever measures sets it back.
    """

    quorum = 1

    def __init__(self, sites: Mapping[str, SiteData], jobs: int = 1) -> None:
        self.sites = sites
        self.jobs = min(jobs, len(sites))
        self.peak_mib = 0.0
        self._pool: ProcessPoolExecutor | None = None

    @property
    def names(self) -> Sequence[str]:
        """The sites, in the configuration's order."""
        return tuple(self.sites)

    def __enter__(self) -> "Workers":
        if self.jobs > 1:
            threads = max(1, torch.get_num_threads() // self.jobs)
            self._pool = ProcessPoolExecutor(
                self.jobs,
                multiprocessing.get_context("spawn"),
                _start,
                (dict(self.sites), threads),
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._pool is None:
            return
        if kind is not None:  # nobody wants the results any more, and they may take minutes
            for process in list(self._pool._processes.values()):
                process.kill()
            # The rest of a result that was cut short would be waited for while this is open.
            self._pool._result_queue._writer.close()  # type: ignore[attr-defined]
        self._pool.shutdown(wait=True, cancel_futures=True)

    def rounds(self, tasks: Mapping[str, tuple[Any, ...]], folder: Path) -> None:  # noqa: ARG002
        """None: the sites are here."""
        return

    def visit(self, work: Work, name: str, given: tuple[Any, ...]) -> Any:
        """The result of a single site, which may be a `PolyclinicError`."""
        ((_, result),) = self.map(work, [(name, given)])
        return result

    def map(
        self, work: Work, tasks: Sequence[tuple[str, tuple[Any, ...]]]
    ) -> Iterator[tuple[str, Any]]:
        """Yield (site, result) in the order of `tasks`; a `PolyclinicError` comes as the result.

        Raises `RunError` where a process was killed. Other exceptions are bugs and are raised.
        """
        if self._pool is None:
            for name, arguments in tasks:
                yield name, _guarded(work, self.sites[name], arguments)
            return
        try:
            with interrupts_held():
                futures: list[tuple[str, Future[tuple[bytes, float]]]] = [
                    (
                        name,
                        self._pool.submit(_remote, pickle.dumps((precision(), work, name, given))),
                    )
                    for name, given in tasks
                ]
            for name, future in futures:
                result, peak = future.result()
                self.peak_mib = max(self.peak_mib, peak)
                yield name, pickle.loads(result)
        except BrokenProcessPool:
            raise RunError(
                f"one of {self.jobs} worker processes was killed, probably for lack of memory; "
                "use fewer jobs, and continue with --resume"
            ) from None


_SITES: dict[str, SiteData] = {}


def _start(sites: dict[str, SiteData], threads: int) -> None:
    bind_to_parent()
    torch.set_num_threads(threads)
    _SITES.update(sites)


def _remote(task: bytes) -> tuple[bytes, float]:
    """Do what was sent: (result, peak memory in MiB).

    Task and result are pickled by hand, because PyTorch would send tensors as shared memory: that
    may be small (in containers), and ends in tracebacks when one of the two is killed meanwhile.
    """
    dtype, work, name, arguments = pickle.loads(task)
    with fixed_precision(dtype), peak_memory() as peak:
        result = _guarded(work, _SITES[name], arguments)
    return pickle.dumps(result), peak[0]


def _guarded(work: Work, site: SiteData, arguments: tuple[Any, ...]) -> Any:
    try:
        return work(site, *arguments)
    except PolyclinicError as error:
        return error
