"""`polyclinic inpaint`: train a painter, paint into files, make an edit again."""

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from polyclinic.cli import engine
from polyclinic.cli.interrupt import resumable
from polyclinic.cli.output import emit
from polyclinic.cli.progress import telling
from polyclinic.cli.run import RUNS, newest_run
from polyclinic.errors import ConfigError, RunError
from polyclinic.run.start import is_unused

if TYPE_CHECKING:
    from polyclinic.inpaint.files.output import Written

SIZES = ("small", "large")
OBJECTIVES = ("flow", "ddpm")
LABELS = ("auto", "brats", "msd", "mask")
MODES = ("sample", "mean")
NAME = "painter"
"""Run directories of painters begin with it."""

_PATH = click.Path(path_type=Path)
_painter = click.option(
    "--painter", type=_PATH, help="A painter of `inpaint train`.  [default: the package's own]"
)
_force = click.option("--force", is_flag=True, help="Write over what is there.")
_json = click.option("--json", "as_json", is_flag=True, help="Print results as JSON lines.")
_quiet = click.option("--quiet", is_flag=True, help="Print nothing but errors and warnings.")


class SliceRange(click.ParamType[tuple[int, int]]):
    """`a:b`, whole numbers, the end exclusive."""

    name = "a:b"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """The two numbers."""
        match = re.fullmatch(r"(\d+):(\d+)", str(value))
        if match is None:
            self.fail(f"expected two whole numbers such as 40:45, got {value}", param, ctx)
        return int(match.group(1)), int(match.group(2))


@click.group(short_help="Train a painter; paint tissue into brain MRI.")
def inpaint() -> None:
    """Fill regions of brain MRI with tumour-free tissue, core, oedema, enhancement or a mixture."""


@inpaint.command(short_help="Train a painter.")
@click.argument("data", nargs=-1, required=True, type=_PATH)
@click.option(
    "--out",
    type=_PATH,
    help="The run directory.  [default: runs/painter-DATE-TIME; with --resume the newest of these]",
)
@click.option("--resume", is_flag=True, help="Continue a training that was interrupted.")
@click.option("--size", type=click.Choice(SIZES), default="small", show_default=True)
@click.option("--objective", type=click.Choice(OBJECTIVES), default="flow", show_default=True)
@click.option("--steps", type=click.IntRange(min=1), default=18_000, show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=16, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--labels",
    type=click.Choice(LABELS),
    default="auto",
    show_default=True,
    help="What labels mean: as in BraTS, as in the Decathlon, or a mask of everything.",
)
@_json
@_quiet
def train(
    data: tuple[Path, ...],
    out: Path | None,
    resume: bool,
    size: Literal["small", "large"],
    objective: Literal["flow", "ddpm"],
    steps: int,
    batch_size: int,
    seed: int,
    labels: Literal["auto", "brats", "msd", "mask"],
    as_json: bool,
    quiet: bool,
) -> None:
    """Train a painter on the folders DATA.

    DATA are BraTS-like folders of patients, folders laid out as in the Medical Segmentation
    Decathlon, or folders with images/ and masks/.
    """
    _one_of(as_json, quiet)
    fresh = RUNS / f"{NAME}-{time.strftime('%Y%m%d-%H%M%S')}"
    out = out or (newest_run(NAME) if resume else fresh)
    if not resume and not is_unused(out):
        raise RunError(f"{out}: exists already; add --resume to continue it, or use another --out")
    again: list[object] = ["polyclinic", "inpaint", "train", *data, "--out", out, "--resume"]
    again += ["--size", size, "--objective", objective, "--steps", steps]
    again += ["--batch-size", batch_size, "--seed", seed, "--labels", labels]
    with resumable(again), telling(as_json=as_json, quiet=quiet) as tell:
        painter = engine.train_painter(
            data,
            out,
            size=size,
            objective=objective,
            steps=steps,
            batch_size=batch_size,
            seed=seed,
            labels=labels,
            resume=resume,
            tell=tell,
        )
    if as_json:
        emit({"event": "result", "run": str(out), "painter": str(painter)})
    elif not quiet:
        click.echo(f"painter: {painter}")


@inpaint.command(short_help="Paint into a file, a case or a series.")
@click.argument("input_path", metavar="INPUT", type=_PATH)
@click.option(
    "--region",
    "regions",
    metavar="FILE|box:x0,y0,x1,y1",
    multiple=True,
    required=True,
    help="Where to paint; may be repeated.",
)
@click.option(
    "--as",
    "components",
    metavar="COMPONENT",
    multiple=True,
    help="What to paint there: tumour-free, core, oedema, enhancing, mixed; one for each --region, "
    "or `drawn` where a drawing's colours say it.",
)
@click.option("--box", "boxed", is_flag=True, help="Let the model choose contours in the regions.")
@click.option("--slices", type=SliceRange(), help="Axial slices, from the feet up, b excluded.")
@click.option("--sequence", help="What INPUT shows: t1n, t1c, t2w, t2f or unknown.")
@click.option("--steps", type=click.IntRange(min=1), default=4, show_default=True)
@click.option("--guidance", type=click.FloatRange(min=0), default=1.0, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--samples", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--mode", type=click.Choice(MODES), default="sample", show_default=True)
@_painter
@click.option("--out", type=_PATH, required=True, help="A file, or a folder.")
@_force
@_json
@_quiet
def edit(
    input_path: Path,
    regions: tuple[str, ...],
    components: tuple[str, ...],
    boxed: bool,
    slices: tuple[int, int] | None,
    sequence: str | None,
    steps: int,
    guidance: float,
    seed: int,
    samples: int,
    mode: Literal["sample", "mean"],
    painter: Path | None,
    out: Path,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Paint regions of INPUT: a PNG, JPEG, TIFF, NIfTI or DICOM file, a BraTS case, a DICOM series.

    A region is a box in pixels of an axial slice, a NIfTI mask of the same geometry, an image of
    the size of a slice (all but 0 is painted), or a drawing in the published colours, which needs
    no --as. All other pixels keep every bit. Beside the image go the mask that was realised and
    a record from which `polyclinic inpaint replay` makes it again.
    """
    _one_of(as_json, quiet)
    if components and len(components) != len(regions):
        raise ConfigError(
            f"--as: {len(components)} for {len(regions)} regions; expected one for each --region, "
            "in their order"
        )
    asks = list(zip(regions, components or [None] * len(regions), strict=True))
    written = engine.edit_file(
        input_path,
        asks,
        out,
        boxed=boxed,
        slices=slices,
        sequence=sequence,
        steps=steps,
        guidance=guidance,
        seed=seed,
        mode=mode,
        samples=samples,
        painter=painter,
        force=force,
    )
    for one in written:
        _show("edit", one, as_json=as_json, quiet=quiet)


@inpaint.command(short_help="Make an edit again from its record.")
@click.argument("sidecar", type=_PATH)
@click.option("--input", "input_path", type=_PATH, help="Where the input is now, if it was moved.")
@_painter
@click.option("--out", type=_PATH, required=True, help="A file, or a folder.")
@_force
@_json
@_quiet
def replay(
    sidecar: Path,
    input_path: Path | None,
    painter: Path | None,
    out: Path,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Make the image again that the record SIDECAR (JSON) describes.

    Input and painter must be those that it was made with; on the same machine every bit of the
    result is the same.
    """
    _one_of(as_json, quiet)
    written = engine.replay_edit(sidecar, out, path=input_path, painter=painter, force=force)
    _show("replay", written, as_json=as_json, quiet=quiet)


def _one_of(as_json: bool, quiet: bool) -> None:
    if as_json and quiet:
        raise ConfigError("--json and --quiet: choose one of the two")


def _show(event: str, written: "Written", *, as_json: bool, quiet: bool) -> None:
    """Print where things are; warnings go to stderr in any case."""
    record = written.provenance
    paths = {"image": written.image, "mask": written.mask, "sidecar": written.sidecar}
    for warning in record.warnings:
        click.echo(f"polyclinic: warning: {warning}", err=True)
    if as_json:
        files = {name: str(path) for name, path in paths.items()}
        emit({"event": event, **files, "seed": record.settings.seed, "pixels": record.pixels})
    elif not quiet:
        painted = ", ".join(f"{count} px {name}" for name, count in record.pixels.items())
        click.echo(f"painted: {painted}, seed {record.settings.seed}")
        for name, path in paths.items():
            click.echo(f"{name}: {path}")
