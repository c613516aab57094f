"""A site's SuperNode: Flower's, which here ends when it no longer works for the server.

Where a connection breaks inside TLS (a handshake cut off, a record garbled), the loop of Flower's
own program ends, and the program does not, because a thread of it goes on: it asks for nothing any
more, and looks alive to whoever keeps it running. Where the server answers a heartbeat with an
error, the heartbeat ends, and the server soon takes the site for gone. Needs Flower.
"""

import contextlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from polyclinic.deploy.tether import descendants

FAILED = 1
"""The exit code, unless the program names one."""
GRACE = 20.0  # s to send what has been done, or to end as Flower does, after a thread has failed
_WORK = b"polyclinic.deploy.site_process"  # in the command of what works on a message


def main() -> None:
    """Run Flower's program with this process's arguments."""
    from flwr.supernode.cli import flower_supernode

    run(flower_supernode)


def run(program: Callable[[], object], grace: float = GRACE) -> NoReturn:
    """Run `program`, and end this process with it, whatever threads it leaves behind.

    Where one of its threads fails, the process ends too, after what is being worked on and `grace`
    seconds.
    """

    def failed(about: threading.ExceptHookArgs) -> None:
        if about.exc_type is not SystemExit:
            with contextlib.suppress(OSError):
                traceback.print_exception(about.exc_value)
            while _works():
                time.sleep(1)
            time.sleep(grace)
            _end(FAILED)

    threading.excepthook = failed
    try:
        program()
    except SystemExit as asked:
        if isinstance(asked.code, str):
            with contextlib.suppress(OSError):
                print(asked.code, file=sys.stderr)
        _end(asked.code if isinstance(asked.code, int) else FAILED)
    except BaseException as error:
        with contextlib.suppress(OSError):
            traceback.print_exception(error)
    _end(FAILED)


def _works() -> bool:
    """Whether a message is being worked on."""
    for pid in descendants(os.getpid()):
        with contextlib.suppress(OSError):
            if _WORK in Path(f"/proc/{pid}/cmdline").read_bytes():
                return True
    return False


def _end(code: int) -> NoReturn:
    """End at once: a log that cannot be written, or a thread, holds nothing up."""
    try:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
