"""`polyclinic inpaint augment`."""

from pathlib import Path
from typing import Literal

import click

from polyclinic.cli.inpaint import engine
from polyclinic.cli.inpaint.options import (
    PATH,
    guidance_option,
    image_sequence_option,
    json_option,
    labels_option,
    one_of,
    painter_option,
    patient_pattern_option,
    quiet_option,
    steps_option,
)
from polyclinic.cli.interrupt import resumable
from polyclinic.cli.output import emit
from polyclinic.cli.progress import telling
from polyclinic.errors import RunError
from polyclinic.run.start import is_unused

BALANCES = ("none", "size", "component", "site")


@click.command(short_help="Paint new labelled cases.")
@click.argument("dataset", type=PATH)
@click.option("--out", type=PATH, required=True, help="The run directory.")
@click.option(
    "--add", "count", type=click.IntRange(min=1), required=True, help="How many cases to paint."
)
@click.option(
    "--component",
    "components",
    metavar="COMPONENT",
    multiple=True,
    help="Parts of tumours to paint: core, oedema, enhancing, mixed; may be repeated.  "
    "[default: all]  Or tumour-free alone: tumours are painted away, and none added.",
)
@click.option(
    "--balance",
    type=click.Choice(BALANCES),
    default="none",
    show_default=True,
    help="What shall come equally often.",
)
@click.option("--remove-tumours", is_flag=True, help="Paint tumours of the cases away first.")
@click.option(
    "--sites",
    metavar="PATTERN",
    help="A regular expression whose first group finds the hospital in a case's name.",
)
@click.option(
    "--patients",
    type=PATH,
    help="Use only these cases: a name a line, or a run's splits.json.  "
    "[default: all but those that the painter's training held out]",
)
@patient_pattern_option
@labels_option
@image_sequence_option
@painter_option
@steps_option
@guidance_option
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of the plan and of what is painted.",
)
@click.option("--resume", is_flag=True, help="Continue what was interrupted, or add more cases.")
@json_option
@quiet_option
def augment(
    dataset: Path,
    out: Path,
    count: int,
    components: tuple[str, ...],
    balance: Literal["none", "size", "component", "site"],
    remove_tumours: bool,
    sites: str | None,
    patients: Path | None,
    patient_pattern: str | None,
    labels: Literal["auto", "brats", "msd", "mask"],
    sequence: str | None,
    painter: Path | None,
    steps: int,
    guidance: float,
    seed: int,
    resume: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Paint tumours into tumour-free tissue of the cases in DATASET, and write them as new cases.

    Shapes are those of the real tumours, deformed. DATASET is laid out as for `inpaint train`; no
    file in it is changed. The new cases are in OUT/cases, which is a data set of its own.
    """
    one_of(as_json, quiet)
    if not resume and not is_unused(out):
        raise RunError(f"{out}: exists already; add --resume to continue it, or use another --out")
    if resume and is_unused(out):
        raise RunError(f"{out}: nothing to resume in it; leave --resume out")
    again: list[object] = ["polyclinic", "inpaint", "augment", dataset, "--out", out, "--resume"]
    again += ["--add", count, *(part for name in components for part in ("--component", name))]
    again += ["--balance", balance, *(["--remove-tumours"] if remove_tumours else [])]
    again += ["--sites", sites] if sites else []
    again += ["--patients", patients] if patients else []
    again += ["--patient-pattern", patient_pattern] if patient_pattern else []
    again += ["--sequence", sequence] if sequence else []
    again += ["--labels", labels, *(["--painter", painter] if painter else [])]
    again += ["--steps", steps, "--guidance", guidance, "--seed", seed]
    with resumable(again), telling(as_json=as_json, quiet=quiet) as tell:
        made = engine.augment(
            dataset,
            out,
            count=count,
            components=components,
            balance=balance,
            remove_tumours=remove_tumours,
            sites=sites,
            patients=patients,
            patient_pattern=patient_pattern,
            labels=labels,
            sequence=sequence,
            painter=painter,
            steps=steps,
            guidance=guidance,
            seed=seed,
            resume=resume,
            tell=tell,
        )
    paths = {"cases": made.cases, "manifest": made.manifest, "contact sheet": made.sheet}
    if as_json:
        files = {name.replace(" ", "_"): str(path) for name, path in paths.items()}
        emit(
            {
                "event": "augment",
                "run": str(out),
                **files,
                "added": made.count,
                "voxels": made.voxels,
            }
        )
    elif not quiet:
        cases = f"{made.count} {'case' if made.count == 1 else 'cases'}"
        voxels = [f"{number} voxels {name}" for name, number in made.voxels.items()]
        click.echo(f"painted: {', '.join([cases, *voxels])}")
        for name, path in paths.items():
            click.echo(f"{name}: {path}")
