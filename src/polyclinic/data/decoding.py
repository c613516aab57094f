"""Items to images at their final scale: by threads, or by processes where there are many."""

import functools
import multiprocessing
import os
import pickle
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polyclinic.data.dataset import Item, Scan
from polyclinic.data.images import quiet_decoders, to_uint8
from polyclinic.data.processes import bind_to_parent, interrupts_held, main_unseen
from polyclinic.data.quality import is_blank
from polyclinic.data.readers.reader import Load
from polyclinic.data.resize import fit, fit_labels, letterbox
from polyclinic.errors import DataError

PROCESSES_FROM = 8192
"""From so many images on processes decode: they take longer to start, and wait for nobody."""
_CHUNK = 128
"""Images that a process is given at a time."""
_AHEAD = 1024
"""So many images are decoded, by each thread or process, before the first of them is used."""

Done = Callable[[float], None]
"""Called with the share of the images that are decoded, 0..1."""


def unheard(_: float) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Plan:
    """What is made of each image.

    Masks and images of `segmentation` are reduced until no side is longer than `side`; of other
    tasks, images are fitted into a square of `side` px.
    """

    side: int
    segmentation: bool = False


@dataclass(frozen=True)
class Decoded:
    """One image at its final scale, not yet padded, or the reason why there is none."""

    image: NDArray[np.uint8] | None = None
    labels: NDArray[np.uint8] | None = None
    side: int = 0  # of the original, the longer one
    blank: bool = False
    reason: str = ""


def decode_all(scan: Scan, plan: Plan, workers: int, done: Done) -> Generator[Decoded, None, None]:
    """All items in turn, decoded by workers that run ahead by no more than `_AHEAD` each.

    `workers` is 0 for one per core. The result does not depend on their number or kind: threads
    decode, and processes where there are at least `PROCESSES_FROM` items whose reader can be sent
    to them. Raises `DataError` where one of these is killed.
    """
    count, number = len(scan.items), workers or _cores()
    portable = None
    if count >= PROCESSES_FROM and number > 1 and not multiprocessing.current_process().daemon:
        portable = _portable(scan.load)
    finished, step = 0, max(_CHUNK, count // 100)
    with quiet_decoders():
        if portable is None:
            way = _by_threads(scan.items, scan.load, plan, number)
        else:
            way = _by_processes(scan, portable, plan, number)
        for one in way:
            yield one
            finished += 1
            if finished % step == 0:
                done(finished / count)


def decode(item: Item, load: Load, plan: Plan) -> Decoded:
    """One item; what cannot be read gives a reason."""
    try:
        stored, labels = load(item)
        pixels = to_uint8(stored, item.key)
        side, blank = max(pixels.shape[:2]), is_blank(pixels)
        if not plan.segmentation:
            return Decoded(letterbox(pixels, plan.side), None, side, blank)
        if labels is None:
            raise DataError(f"{item.key}: has no mask")
        image = fit(pixels, plan.side, enlarge=False)
        return Decoded(image, fit_labels(labels, plan.side), side, blank)
    except DataError as error:
        return Decoded(reason=str(error).removeprefix(f"{item.key}: "))


def _by_threads(items: Sequence[Item], load: Load, plan: Plan, workers: int) -> Iterator[Decoded]:
    one = functools.partial(decode, load=load, plan=plan)
    pool = ThreadPoolExecutor(workers)
    try:
        for start in range(0, len(items), _AHEAD):
            yield from pool.map(one, items[start : start + _AHEAD])
    finally:
        pool.shutdown(cancel_futures=True)


def _by_processes(scan: Scan, portable: bytes, plan: Plan, workers: int) -> Iterator[Decoded]:
    spawn = multiprocessing.get_context("spawn")  # torch's threads would not survive a fork
    pool = ProcessPoolExecutor(workers, spawn, _begin, (portable, plan))
    waiting: deque[Future[list[Decoded]]] = deque()
    starts = iter(range(0, len(scan.items), _CHUNK))
    started = False
    try:
        with interrupts_held(), main_unseen():
            ready = pool.submit(_is_ready)
        started = ready.result()
        while True:
            with interrupts_held(), main_unseen():
                for start in starts:
                    waiting.append(pool.submit(_chunk, scan.items[start : start + _CHUNK]))
                    if len(waiting) >= workers * max(1, _AHEAD // _CHUNK):
                        break
            if not waiting:
                return
            yield from waiting.popleft().result()
    except BrokenProcessPool:
        if started:  # decoding in this process could end it, too
            raise DataError(
                f"{scan.folder}: one of {workers} processes that decode images was killed, "
                "probably for lack of memory; free some, and start again"
            ) from None
    finally:
        pool.shutdown(cancel_futures=True)
    # They could not even start, as where a reader is the caller's own.
    yield from _by_threads(scan.items, scan.load, plan, workers)


def _portable(load: Load) -> bytes | None:
    """A reader's `load` for other processes; None where it holds what cannot be sent."""
    try:
        return pickle.dumps(load)
    except (pickle.PicklingError, AttributeError, TypeError):
        return None


_job: tuple[Load, Plan] | None = None
"""What a worker process does; set once in each."""


def _begin(portable: bytes, plan: Plan) -> None:
    global _job
    bind_to_parent()
    warnings.simplefilter("ignore")
    _job = (pickle.loads(portable), plan)


def _is_ready() -> bool:
    return True


def _chunk(items: Sequence[Item]) -> list[Decoded]:
    assert _job is not None
    load, plan = _job
    return [decode(item, load, plan) for item in items]


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
