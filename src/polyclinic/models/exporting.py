"""An encoder as files that anybody may load: weights in safetensors, and how they are used.

    FOLDER/
      encoder.safetensors   the weights, and nothing that could run
      config.json           size of the network and of its images, where it comes from
      README.md             a card for people
      encoder.onnx          where it was asked for

Nothing here unpickles. A folder or a file that holds anything which can run code is refused
before it is read, so that a model that came by e-mail is a file like any other.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polyclinic.errors import RunError
from polyclinic.models.encoder import PRESETS, Encoder, Preset, build_encoder
from polyclinic.models.state import State, load_state, save_state

SCHEMA = "polyclinic.encoder/1"
WEIGHTS, CONFIG = "encoder.safetensors", "config.json"
_EXPECTED = f"expected a folder with {WEIGHTS} and {CONFIG}, as `polyclinic export` writes it"
_RUNNABLE = {
    **dict.fromkeys((".pt", ".pth", ".bin", ".ckpt"), "a PyTorch file, which may hold a pickle"),
    **dict.fromkeys((".pkl", ".pickle", ".joblib", ".dill"), "a pickle"),
    **dict.fromkeys((".zip", ".whl", ".jar", ".tar", ".tgz", ".gz"), "an archive"),
    **dict.fromkeys((".py", ".pyc", ".sh", ".so", ".dll", ".dylib", ".exe"), "a program"),
}
_BEGINNINGS = (
    (b"PK\x03\x04", "a zip archive"),
    (b"PK\x05\x06", "a zip archive"),
    (b"\x1f\x8b", "a compressed archive"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"#!", "a program"),
)
_MAX_HEADER = 100_000_000  # bytes; what safetensors itself allows
_MAX_FILES = 1000  # of a folder; an exported one has three or four


@dataclass(frozen=True)
class Exported:
    """An encoder's weights and what belongs to them; `image_size` and `largest_side` in px.

    `origin` says for people and programs where it comes from: run, method, seed, version.
    """

    state: State
    preset: Preset
    image_size: int
    largest_side: int
    origin: dict[str, Any] = field(default_factory=dict)


def save_export(exported: Exported, folder: Path) -> None:
    """Write weights and configuration into `folder`; `RunError` where the disk is full."""
    weights = folder / WEIGHTS
    save_state(exported.state, weights, {"schema": SCHEMA}, for_others=True)
    sizes = PRESETS[exported.preset]
    config = {
        "schema": SCHEMA,
        "preset": exported.preset,
        "widths": list(sizes.widths),
        "depths": list(sizes.depths),
        "embedding": sizes.embedding,
        "stride": sizes.stride,
        "image_size": exported.image_size,
        "largest_side": exported.largest_side,
        "intensities": "0..1; one or three channels",
        "sha256": _digest(weights),
        "origin": exported.origin,
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def read_export(path: Path) -> Exported:
    """What `save_export` wrote to the folder `path` (or the weights' path in that folder).

    Raises `RunError` where anything in it could run code, is missing, damaged, or of another kind.
    """
    refuse_runnable(path, subfolders=False)
    if path.is_file() and path.name != WEIGHTS:
        raise RunError(
            f"{path}: expected the folder that `polyclinic export` wrote, or its {WEIGHTS}, got "
            "another file"
        )
    folder = path.parent if path.is_file() else path
    config = _config(folder / CONFIG)
    refuse_runnable(path)  # only now: what is no export, such as a run, has heard so
    given = config.get("preset")
    preset = next((name for name in PRESETS if name == given), None)
    if preset is None:
        known = " or ".join(PRESETS)
        raise RunError(f"{folder / CONFIG}: preset: expected {known}, got {given!r}")
    sizes = [config.get(key) for key in ("image_size", "largest_side")]
    if not all(type(size) is int and size > 0 for size in sizes):
        raise RunError(
            f"{folder / CONFIG}: image_size and largest_side: expected px above 0, got {sizes}; "
            "export the encoder again"
        )
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise RunError(f"{folder}: no {WEIGHTS} in it; {_EXPECTED}")
    if _digest(weights) != config.get("sha256"):
        raise RunError(
            f"{weights}: not the weights that {CONFIG} was written for (its SHA-256 differs); "
            "copy both files again, or export the encoder again"
        )
    origin = config.get("origin")
    state = _fitting(load_state(weights), preset, weights)
    known_origin = origin if isinstance(origin, dict) else {}
    return Exported(state, preset, config["image_size"], config["largest_side"], known_origin)


def load_encoder(path: str | Path) -> Encoder:
    """The encoder in an exported folder: a `torch.nn.Module` on the CPU, ready for inference.

    Called with images (B, 1 or 3, H, W) in 0..1 it gives one feature map a stage; its `embed`
    gives (B, embedding). Raises `RunError` as `read_export`.
    """
    exported = read_export(Path(path))
    encoder = build_encoder(exported.preset, seed=0)
    encoder.load_state_dict(exported.state)
    return encoder.eval()


def refuse_runnable(path: Path, expected: str = _EXPECTED, *, subfolders: bool = True) -> None:
    """Raise `RunError` where `path`, or a file in the folder `path`, can run code when loaded.

    The error says what was `expected`. Names are looked at, and the first bytes: a pickle that is
    called .safetensors is a pickle. With `subfolders`, what lies there counts too, at any depth.
    Hidden files and folders are left alone, and links to folders are not followed: nothing here
    opens them. A folder of more files than can be looked at is refused as well.
    """
    if not path.exists():
        raise RunError(f"{path}: no such file or folder; {expected}")
    files = [path] if path.is_file() else _files_in(path, subfolders=subfolders)
    for number, file in enumerate(files):
        if number == _MAX_FILES:
            raise RunError(
                f"{path}: more than {_MAX_FILES} files in it, too many to see whether one could "
                f"run code; {expected}, in a folder of its own"
            )
        if kind := _runnable(file):
            raise RunError(
                f"{file}: {kind}; it could run code when it is loaded, so it was not opened; "
                f"{expected}"
            )


def _files_in(folder: Path, *, subfolders: bool) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(n for n in folders if subfolders and not n.startswith("."))
        files = (Path(place, n) for n in sorted(names) if not n.startswith("."))
        yield from (file for file in files if file.is_file())


def _runnable(file: Path) -> str | None:
    """What in `file` could run, or None."""
    if file.suffix.lower() in _RUNNABLE:
        return _RUNNABLE[file.suffix.lower()]
    try:
        with file.open("rb") as opened:
            head = opened.read(9)
    except OSError as error:
        raise RunError(f"{file}: cannot be read ({error.strerror})") from None
    # A header of safetensors begins with its own length, whose bytes may be those of a pickle.
    if head[8:] == b"{" and int.from_bytes(head[:8], "little") <= _MAX_HEADER:
        return None
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a pickle"
    return next((kind for begins, kind in _BEGINNINGS if head.startswith(begins)), None)


def _config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{path.parent}: no {CONFIG} in it; {_EXPECTED}") from None
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read ({error}); export the encoder again") from None
    found = config.get("schema") if isinstance(config, dict) else None
    if found != SCHEMA:
        raise RunError(f"{path}: expected schema {SCHEMA!r}, got {found!r}; {_EXPECTED}")
    checked: dict[str, Any] = config
    return checked


def _fitting(state: State, preset: Preset, path: Path) -> State:
    wanted = {name: value.shape for name, value in build_encoder(preset, 0).state_dict().items()}
    found = {name: value.shape for name, value in state.items()}
    if found != wanted:
        odd = sorted({n for n in wanted.keys() | found.keys() if wanted.get(n) != found.get(n)})
        raise RunError(
            f"{path}: not the weights of the encoder {preset!r}: {len(odd)} tensors are missing, "
            f"unknown or of another shape (first: {odd[0]}); export the encoder again"
        )
    return state


def _digest(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
