"""Finds a trained encoder: in the directory of a run, or in a folder that was exported."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyclinic.config import Config, load_config
from polyclinic.errors import RunError
from polyclinic.models.adopted import FACTS
from polyclinic.models.encoder import Preset
from polyclinic.models.exporting import WEIGHTS, read_export
from polyclinic.models.state import State, load_state
from polyclinic.run.roles import lead_method

CONFIG = "config.json"  # of a run and of an export, with other content
_EXPECTED = "expected a run of `polyclinic run`, or what `polyclinic export` wrote"
RUN_FILES = ("metrics.jsonl", "log.txt", "results.json")  # what a run has and no export does


@dataclass(frozen=True)
class TrainedEncoder:
    """An encoder and how its images were prepared; sizes in px.

    `run` and `config` are None for an exported one, of which only `origin` is known.
    """

    state: State
    preset: Preset
    image_size: int
    largest_side: int
    origin: dict[str, Any]
    run: Path | None = None
    config: Config | None = None


def find_encoder(
    path: Path, *, method: str | None = None, seed: int | None = None
) -> TrainedEncoder:
    """The encoder in a run directory, or in an exported folder.

    Of a run: that of `method` (by default the leading one) and `seed` (the first). Raises
    `RunError` where there is none, `ConfigError` where the run's configuration is damaged.
    """
    if not path.exists():
        raise RunError(f"{path}: no such folder; {_EXPECTED}")
    if (path / FACTS).is_file():
        raise RunError(
            f"{path}: a model that `polyclinic adopt` wrote, which `polyclinic predict` takes; "
            f"here, {_EXPECTED}"
        )
    if not any((path / name).is_file() for name in RUN_FILES):
        if path.is_dir() and not (path / CONFIG).is_file():
            raise RunError(f"{path}: neither a run nor an export, no {CONFIG} in it; {_EXPECTED}")
        if method is not None or seed is not None:
            raise RunError(
                f"{path}: not a run, so it holds one encoder only; leave --method and --seed out"
            )
        exported = read_export(path)
        sizes = (exported.image_size, exported.largest_side)
        return TrainedEncoder(exported.state, exported.preset, *sizes, exported.origin)
    if not (path / CONFIG).is_file():
        raise RunError(
            f"{path}: a run without its {CONFIG}, which says how large the encoder is and how its "
            "images were prepared; copy it from where the run was made"
        )
    config = load_config(path / CONFIG)
    chosen = method or lead_method(config.methods) or config.methods[0]
    number = config.seeds[0] if seed is None else seed
    weights = path / f"seed-{number}" / chosen / "encoders" / WEIGHTS
    if not weights.is_file():
        raise RunError(
            f"{path}: no encoder of method {chosen!r} with seed {number}; "
            f"{_what_there_is(path, chosen)}"
        )
    return TrainedEncoder(
        load_state(weights),
        config.preset,
        config.data.image_size,
        config.data.largest_side,
        {"run": config.name, "method": chosen, "seed": number},
        path,
        config,
    )


def mim_start(found: TrainedEncoder) -> State | None:
    """The encoder before any site trained it, of the same run and seed; None where it is gone."""
    if found.run is None:
        return None
    path = found.run / f"seed-{found.origin['seed']}" / "mim" / "start.safetensors"
    return load_state(path) if path.is_file() else None


def _what_there_is(run: Path, method: str) -> str:
    own = list(run.glob(f"seed-*/{method}/encoders/*.safetensors"))
    if own and all(path.name != WEIGHTS for path in own):
        return f"{method} keeps one for each site, which cannot stand for all; choose another"
    found = sorted(run.glob(f"seed-*/*/encoders/{WEIGHTS}"))
    if not found:
        return "it has none yet; finish the run with --resume"
    listed = ", ".join(f"{p.parts[-3]} {p.parts[-4].replace('-', ' ')}" for p in found)
    return f"there are: {listed}"
