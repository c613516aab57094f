"""A site's SuperNode: Flower's, which here ends when it no longer works for the server.

A connection that breaks inside TLS, as every restart behind a proxy makes one, ends the loop of
Flower's own program, but not the program: it stands there, asks for nothing any more, and looks
alive to whoever keeps it running. The same where its heartbeat ends. Needs Flower.
"""

import os
import sys
import threading
import traceback
from collections.abc import Callable

LOST = 1
"""The exit code where it has lost the server."""


def main() -> None:
    """Run Flower's program with this process's arguments."""
    from flwr.supernode.cli import flower_supernode

    run(flower_supernode)


def run(program: Callable[[], object]) -> None:
    """Run `program`, and end this process with it, or with the first of its threads that fails.

    Threads that `program` leaves behind end too.
    """
    threading.excepthook = lambda failed: _end(failed.exc_value)
    try:
        program()
    except SystemExit as asked:
        _end(None, asked.code if isinstance(asked.code, int) else LOST)
    except BaseException as error:
        _end(error)
    _end(None)


def _end(error: BaseException | None, code: int = LOST) -> None:
    if error is not None:
        traceback.print_exception(error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
