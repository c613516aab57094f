"""What a run computes with: settled when it starts, and kept when it is resumed."""

from typing import Any

import torch

from polyclinic.errors import ConfigError, RunError
from polyclinic.models.device import PRECISIONS, asked_precision, describe, fixed_precision
from polyclinic.run.directory import RunDirectory, read_json
from polyclinic.run.progress import Progress, Tell

FILE = "environment.json"
_DECIDE = ("machine", "device", "threads", "torch")
"""What has a say in the last bits of a result, apart from the precision."""


def settle(directory: RunDirectory[Any], tell: Tell) -> torch.dtype:
    """The precision of the whole run: chosen at its start, and afterwards read from the record.

    The record stays as it was at the start; `tell` hears what is different now. Raises
    `ConfigError` where POLYCLINIC_PRECISION asks for another precision, and `RunError` where the
    record is damaged.
    """
    path = directory.path / FILE
    if not path.exists():
        directory.write_json(FILE, describe())
    began = read_json(path)
    precision = PRECISIONS.get(str(began.get("precision")))
    if precision is None:
        raise RunError(
            f"{path}: precision: expected one of {', '.join(PRECISIONS)}, "
            f"got {began.get('precision')!r}; start a new run with another --out"
        )
    if asked_precision() not in (None, precision):
        raise ConfigError(
            f"POLYCLINIC_PRECISION: expected {began['precision']}, in which {directory.path} was "
            f"started, got {str(asked_precision()).removeprefix('torch.')}; unset it, or start a "
            "new run with another --out"
        )
    with fixed_precision(precision):
        now = describe()
    changed = [
        f"{key} was {began.get(key)}, is {now[key]}"
        for key in _DECIDE
        if began.get(key) != now[key]
    ]
    if changed:
        text = f"since the run was started: {'; '.join(changed)}; the last bits may differ"
        tell(Progress("prepare", 0.0, message=text))
    return precision
