"""`polyclinic inpaint`: train a painter, paint into files, make an edit again."""

import click

from polyclinic.cli.inpaint.augment import augment
from polyclinic.cli.inpaint.edit import edit, replay
from polyclinic.cli.inpaint.evaluate import evaluate
from polyclinic.cli.inpaint.train import train


@click.group(short_help="Train a painter; paint tissue into brain MRI.")
def inpaint() -> None:
    """Fill regions of brain MRI with tumour-free tissue, core, oedema, enhancement or a mixture."""


for _command in (train, edit, replay, augment, evaluate):
    inpaint.add_command(_command)
