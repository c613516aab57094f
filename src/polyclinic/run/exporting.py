"""A run's encoder as a folder that may be passed on."""

import hashlib
from pathlib import Path

from polyclinic import __version__
from polyclinic.errors import RunError
from polyclinic.models.exporting import WEIGHTS, Exported, load_encoder, save_export
from polyclinic.models.onnx import write_onnx
from polyclinic.run.directory import read_json
from polyclinic.run.encoder_source import find_encoder
from polyclinic.run.model_card import model_card
from polyclinic.run.progress import Progress, Tell, silent
from polyclinic.run.whole_folder import require_unused, whole_folder

ONNX = "encoder.onnx"


def export_run(
    run: Path,
    out: Path,
    *,
    method: str | None = None,
    seed: int | None = None,
    onnx: bool = False,
    tell: Tell = silent,
) -> tuple[Path, ...]:
    """Write the encoder of `run` to the folder `out`, with its card; returns the files.

    `method` is by default the leading one, `seed` the first. Raises `RunError` where the run has
    no such encoder or no results, where `out` is in use, or where ONNX differs from PyTorch.
    """
    require_unused(out)
    found = find_encoder(run, method=method, seed=seed)
    if found.run is None:
        raise RunError(f"{run}: is exported already; expected a run directory of `polyclinic run`")
    results = run / "results.json"
    if not results.is_file():
        raise RunError(
            f"{run}: no results.json, from which the model card is written; finish the run with "
            "--resume, and that of a server by starting it again"
        )
    figures = read_json(results)
    attacks = run / "audit.json"
    audit = read_json(attacks) if attacks.is_file() else None
    chosen, number = str(found.origin["method"]), int(found.origin["seed"])
    with whole_folder(out) as part:
        exported = Exported(
            found.state,
            found.preset,
            found.image_size,
            found.largest_side,
            {**found.origin, "version": __version__},
        )
        save_export(exported, part)
        digest = hashlib.sha256((part / WEIGHTS).read_bytes()).hexdigest()
        try:
            card = model_card(figures, chosen, number, digest, audit)
        except (KeyError, TypeError) as error:
            raise RunError(
                f"{results}: lacks {error}, or its audit.json does, which the model card needs; "
                "finish the run with --resume, or write the results again"
            ) from None
        (part / "README.md").write_text(card, encoding="utf-8")
        if onnx:
            tell(Progress("export", 0.5))
            write_onnx(load_encoder(part), part / ONNX)
        names = sorted(path.name for path in part.iterdir())
    return tuple(out / name for name in names)
