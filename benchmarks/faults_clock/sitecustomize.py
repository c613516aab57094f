"""A clock that can be set wrong, for the processes of `faults.py` that have this on PYTHONPATH.

Python runs a module of this name when it starts, before anything else is imported. The time of day
(`time.time`, `time.time_ns`, `datetime.now`, `utcnow`, `today`) is off by the number of seconds in
the file that POLYCLINIC_FAULTS_CLOCK names. What measures how long something takes goes on, as on a
machine whose clock is set. Out of reach is what asks the kernel itself: OpenSSL's look at the dates
of a certificate, and times of files.
"""

import datetime
import os
import time
from typing import Any

_FILE = os.environ["POLYCLINIC_FAULTS_CLOCK"]
_time, _time_ns, _Right = time.time, time.time_ns, datetime.datetime


def _shift() -> float:
    try:
        with open(_FILE, encoding="ascii") as file:  # noqa: PTH123 - pathlib is slow to import
            return float(file.read())
    except (OSError, ValueError):
        return 0.0


class _Any(type):
    """Any moment is one of ours, also those that were made before, or by C."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _Right)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, _Right)


class _Moment(_Right, metaclass=_Any):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Any:
        return super().now(tz) + datetime.timedelta(seconds=_shift())

    @classmethod
    def utcnow(cls) -> Any:
        return cls.now(datetime.UTC).replace(tzinfo=None)

    @classmethod
    def today(cls) -> Any:
        return cls.now()


time.time = lambda: _time() + _shift()
time.time_ns = lambda: _time_ns() + int(_shift() * 1e9)
datetime.datetime = _Moment  # type: ignore[misc]
