"""Options that commands of `polyclinic inpaint` share."""

from pathlib import Path

import click

from polyclinic.errors import ConfigError

LABELS = ("auto", "brats", "msd", "mask")
PATH = click.Path(path_type=Path)

painter_option = click.option(
    "--painter", type=PATH, help="A painter of `inpaint train`.  [default: the package's own]"
)
labels_option = click.option(
    "--labels",
    type=click.Choice(LABELS),
    default="auto",
    show_default=True,
    help="What labels mean: as in BraTS, as in the Decathlon, or a mask of a mixture.",
)
patient_pattern_option = click.option(
    "--patient-pattern",
    metavar="REGEX",
    help="A regular expression whose first group finds the patient in a case's name.  "
    "[default: BraTS-GLI-00000-001 is of BraTS-GLI-00000, other cases are a patient each]",
)
image_sequence_option = click.option(
    "--sequence",
    metavar="NAME",
    help="Sequence of images with masks: t1n, t1c, t2w, t2f.  [default: unknown]",
)
steps_option = click.option(
    "--steps",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="Steps from noise to the image.",
)
guidance_option = click.option(
    "--guidance",
    type=click.FloatRange(1, 10),
    default=1.5,
    show_default=True,
    help="How much tumours that are asked for are exaggerated; 1 is not at all.",
)
force_option = click.option("--force", is_flag=True, help="Write over what is there.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print results as JSON lines.")
quiet_option = click.option("--quiet", is_flag=True, help="Print nothing but errors and warnings.")


def one_of(as_json: bool, quiet: bool) -> None:
    """`ConfigError` where both are asked for."""
    if as_json and quiet:
        raise ConfigError("--json and --quiet: choose one of the two")
