"""What worker processes need to end when they should: Ctrl-C is the parent's, and so is the end."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Keep Ctrl-C back in the block, and from processes that start in it: it is the parent's."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def main_unseen() -> Iterator[None]:
    """Processes that start in the block do not import the program that called.

    A script without `if __name__ == "__main__"` would run a second time in each of them. What
    they are to do must come from modules then.
    """
    main = sys.modules["__main__"]
    names: tuple[str, ...] = ("__file__", "__spec__")
    kept = {name: main.__dict__.pop(name) for name in names if name in vars(main)}
    main.__spec__ = None
    try:
        yield
    finally:
        main.__dict__.update(kept)


def bind_to_parent() -> None:
    """To be called first in a worker: Ctrl-C is left to the parent, whose end is the worker's.

    A parent that was killed ends nobody, and its workers would wait for it for ever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
