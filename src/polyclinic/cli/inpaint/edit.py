"""`polyclinic inpaint edit` and `polyclinic inpaint replay`."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from polyclinic.cli.inpaint import engine
from polyclinic.cli.inpaint.options import (
    PATH,
    force_option,
    guidance_option,
    json_option,
    one_of,
    painter_option,
    quiet_option,
    steps_option,
)
from polyclinic.cli.output import emit
from polyclinic.cli.progress import telling
from polyclinic.errors import ConfigError

if TYPE_CHECKING:
    from polyclinic.inpaint.files.output import Written

MODES = ("sample", "mean")


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


@click.command(short_help="Paint into a file, a case or a series.")
@click.argument("input_path", metavar="INPUT", type=PATH)
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
    "or `drawn` where a drawing's colours say it, `labels` where the labels of BraTS do.",
)
@click.option("--box", "boxed", is_flag=True, help="Let the model choose contours in the regions.")
@click.option("--slices", type=SliceRange(), help="Axial slices, from the feet up, b excluded.")
@click.option(
    "--sequence",
    help="What INPUT shows: t1n, t1c, t2w, t2f or unknown.  [default: as its name or header says]",
)
@steps_option
@guidance_option
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Another seed paints something else.",
)
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Results, with seeds that follow each other.",
)
@click.option(
    "--mode",
    type=click.Choice(MODES),
    default="sample",
    show_default=True,
    help="One of the possible images, or their mean.",
)
@painter_option
@click.option("--out", type=PATH, required=True, help="A file, or a folder.")
@force_option
@json_option
@quiet_option
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
    the size of a slice, or a drawing in the published colours, which needs no --as. All other
    pixels keep every bit. Beside the image go the mask that was realised and a record from which
    `polyclinic inpaint replay` makes it again.
    """
    one_of(as_json, quiet)
    if components and len(components) != len(regions):
        raise ConfigError(
            f"--as: {len(components)} for {len(regions)} regions; expected one for each --region, "
            "in their order"
        )
    asks = list(zip(regions, components or [None] * len(regions), strict=True))
    with telling(as_json=as_json, quiet=quiet) as tell:
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
            tell=tell,
        )
    for one in written:
        _show("edit", one, as_json=as_json, quiet=quiet)


@click.command(short_help="Make an edit again from its record.")
@click.argument("sidecar", type=PATH)
@click.option("--input", "input_path", type=PATH, help="Where the input is now, if it was moved.")
@painter_option
@click.option("--out", type=PATH, required=True, help="A file, or a folder.")
@force_option
@json_option
@quiet_option
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
    result is the same. Where it is not, the result is written and the command fails.
    """
    one_of(as_json, quiet)
    with telling(as_json=as_json, quiet=quiet) as tell:
        written = engine.replay_edit(
            sidecar, out, path=input_path, painter=painter, force=force, tell=tell
        )
    _show("replay", written, as_json=as_json, quiet=quiet)


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
        known = record.sequence not in (None, "unknown")
        sequence = f" into {record.sequence}" if known else ""
        click.echo(f"painted: {painted}{sequence}, seed {record.settings.seed}")
        for name, path in paths.items():
            click.echo(f"{name}: {path}")
