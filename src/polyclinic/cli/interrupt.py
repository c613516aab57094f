"""What becomes of Ctrl-C in the middle of a run: a line that says how to go on."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class Interrupted(Exception):  # noqa: N818 - not an error
    """The user stopped a run; the text is the command that continues it."""


@contextmanager
def resumable(command: Sequence[object]) -> Iterator[None]:
    """Turn `KeyboardInterrupt` into `Interrupted` with `command`, quoted for a shell."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(shlex.join(map(str, command))) from None
