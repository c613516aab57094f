"""Weights as a flat dictionary of named CPU tensors: what is stored, sent and averaged."""

import errno
import hashlib
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save, save_file
from torch import Tensor, nn

from polyclinic.data.writing import writing
from polyclinic.errors import RunError

State = dict[str, Tensor]


def under(state: Mapping[str, Tensor], prefix: str) -> State:
    """The tensors whose names begin with `prefix`, named without it."""
    return {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}


def state_of(module: nn.Module) -> State:
    """A copy of the module's weights on the CPU, in plain (contiguous) layout."""
    return {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in module.state_dict().items()
    }


def digest_of(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of names and values, whatever file they are in."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode() + state[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_into(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy `state` into the module; keys and shapes must match exactly."""
    module.load_state_dict(dict(state), strict=True)


def save_state(
    state: Mapping[str, Tensor],
    path: Path,
    metadata: dict[str, str] | None = None,
    *,
    for_others: bool = False,
) -> None:
    """Write safetensors so that `path` is whole or absent, whatever happens meanwhile.

    safetensors writes by way of a temporary file, which only its owner may read. What is to be
    passed on is written `for_others`: the umask decides, as for any other file.
    """
    tensors = {k: v.contiguous() for k, v in state.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing(path) as part:
            if for_others:
                part.write_bytes(save(tensors, metadata))
            else:
                save_file(tensors, part, metadata)
    except (OSError, SafetensorError) as error:
        raise disk_error(error, path) from None


def load_state(path: Path, part_of: Path | None = None) -> State:
    """Read what `save_state` wrote; `RunError` names a file that is damaged.

    `part_of` is the folder that must go as a whole if the file has to go.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError, struct.error) as error:
        advice = (
            f"delete the folder {part_of} and resume: that part is computed again"
            if part_of
            else "expected a safetensors file that polyclinic wrote; if it is part of a run, move "
            "it away and resume the run, which computes it again"
        )
        raise RunError(f"{path}: not a readable checkpoint ({error}); {advice}") from None


def disk_error(error: Exception, path: Path) -> RunError:
    """What to say when `path` cannot be written."""
    full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
    if full:
        return RunError(
            f"{path}: the disk is full; free some space, then give the same command with "
            "--resume: nothing that was finished is lost"
        )
    return RunError(f"{path}: cannot be written ({error})")
