"""`polyclinic inpaint evaluate`."""

import json
from pathlib import Path
from typing import Any, Literal

import click

from polyclinic.cli.inpaint import engine
from polyclinic.cli.inpaint.options import (
    PATH,
    json_option,
    labels_option,
    one_of,
    quiet_option,
    steps_option,
)
from polyclinic.cli.interrupt import resumable
from polyclinic.cli.output import emit, table
from polyclinic.cli.progress import telling
from polyclinic.errors import RunError
from polyclinic.run.start import is_unused

SPLITS = ("test", "val")
SHOWN = {
    "PSNR, dB": ("infill", "infill", "psnr"),
    "SSIM": ("infill", "infill", "ssim"),
    "ring AUC": ("seams", "infill", "ring_auc"),
    "KID": ("features", "infill", "kid"),
    "s a slice": ("time", "all", "seconds"),
}
"""What is printed of every variant: heading to table, kind and measure."""


@click.command(short_help="Judge a painter on held-out patients.")
@click.argument("painter", metavar="PAINTER_OR_RUN", type=PATH)
@click.argument("data", nargs=-1, type=PATH)
@click.option("--out", type=PATH, required=True, help="The folder to write.")
@click.option("--resume", is_flag=True, help="Continue an evaluation that was interrupted.")
@click.option(
    "--phantoms",
    is_flag=True,
    help="Judge on made-up heads that the run held out, not on patients.",
)
@click.option(
    "--split",
    type=click.Choice(SPLITS),
    default="test",
    show_default=True,
    help="Which patients of the run to judge on.",
)
@labels_option
@steps_option
@click.option(
    "--segmenter",
    type=PATH,
    help="The segmenter that judges.  [default: one is trained, in about 25 minutes of a core, "
    "and kept in --out]",
)
@click.option(
    "--max-slices",
    type=click.IntRange(min=1),
    default=60,
    show_default=True,
    help="Slices with a tumour that are painted on, and as many without.",
)
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="Seeds for each of the edits that diversity is measured on.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of the edits, the samples and the segmenter.",
)
@json_option
@quiet_option
def evaluate(
    painter: Path,
    data: tuple[Path, ...],
    out: Path,
    resume: bool,
    phantoms: bool,
    split: Literal["test", "val"],
    labels: Literal["auto", "brats", "msd", "mask"],
    steps: int,
    segmenter: Path | None,
    max_slices: int,
    samples: int,
    seed: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """Judge a painter on patients that it was not trained on.

    PAINTER_OR_RUN is a run directory of `inpaint train`, which says on which folders it was
    trained and which patients were held out; or a file of weights with its splits.json beside it,
    together with the folders DATA.
    A run that was trained on made-up heads alone is judged on made-up heads.
    """
    one_of(as_json, quiet)
    if not resume and not is_unused(out):
        raise RunError(f"{out}: exists already; add --resume to continue it, or use another --out")
    again: list[object] = ["polyclinic", "inpaint", "evaluate", painter, *data, "--out", out]
    again += ["--phantoms"] if phantoms else []
    again += ["--resume", "--split", split, "--labels", labels, "--steps", steps]
    again += ["--segmenter", segmenter] if segmenter else []
    again += ["--max-slices", max_slices, "--samples", samples, "--seed", seed]
    with resumable(again), telling(as_json=as_json, quiet=quiet) as tell:
        results, report = engine.evaluate_painter(
            painter,
            data,
            out,
            phantoms=phantoms,
            split=split,
            labels=labels,
            steps=steps,
            segmenter=segmenter,
            max_slices=max_slices,
            samples=samples,
            seed=seed,
            resume=resume,
            tell=tell,
        )
    if quiet:
        return
    summary = summarise(json.loads(results.read_text(encoding="utf-8")))
    if as_json:
        paths = {"results": str(results), "report": str(report)}
        emit({"event": "evaluation", "run": str(out), **paths, "summary": summary})
    else:
        rows = [
            [name, *("-" if v is None else f"{v:.3f}" for v in found.values())]
            for name, found in summary["variants"].items()
        ]
        click.echo(table(["tumour-free infill", *SHOWN], rows))
        if summary["components"]:
            click.echo(table(["component", *COMPONENT], _component_rows(summary["components"])))
        click.echo(f"results: {results}\nreport: {report}")


COMPONENT = ("variant", "Dice", "real", "ratio")


def summarise(results: dict[str, Any]) -> dict[str, Any]:
    """`variants`: name to the numbers of `SHOWN`; `components`: Dice of each, painted and real."""
    tables = results["tables"]

    def value(variant: str, name: str, kind: str, measure: str, group: str = "all") -> Any:
        wanted = (variant, kind, measure, group)
        for entry in tables[name]:
            if (entry["variant"], entry["kind"], entry["measure"], entry["group"]) == wanted:
                return entry["value"]
        return None

    names = [variant["name"] for variant in results["variants"]]
    components = [
        {
            "component": entry["group"],
            "variant": entry["variant"],
            **{
                measure: value(entry["variant"], "components", "tumour", measure, entry["group"])
                for measure in ("dice", "dice_real", "dice_ratio")
            },
        }
        for entry in tables["components"]
        if entry["by"] == "component" and entry["measure"] == "dice"
    ]
    return {
        "variants": {
            name: {heading: value(name, *where) for heading, where in SHOWN.items()}
            for name in names
        },
        "components": components,
    }


def _component_rows(components: list[dict[str, Any]]) -> list[list[str]]:
    return [
        [
            entry["component"],
            entry["variant"],
            *(
                "-" if entry[m] is None else f"{entry[m]:.3f}"
                for m in ("dice", "dice_real", "dice_ratio")
            ),
        ]
        for entry in components
    ]
