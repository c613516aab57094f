"""`polyclinic data`: commands about a site's data."""

import click

from polyclinic.cli.data_check import check
from polyclinic.cli.data_fetch import fetch


@click.group(short_help="Look at a site's data; fetch public sets.")
def data() -> None:
    """Look at a site's data before a run does; fetch public sets to try things with."""


for _command in (check, fetch):
    data.add_command(_command)
