"""What the user says of a folder where its names alone say something else, or too little."""

from collections.abc import Callable
from typing import Any, get_args, get_type_hints

import click

from polyclinic.cli import engine
from polyclinic.config import SiteConfig

TASKS: tuple[str, ...] = get_args(get_type_hints(SiteConfig)["task"])


def known_format(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """`value`, where it is `auto` or a reader's name. No `click.Choice`: readers load slowly."""
    del context, parameter
    if value != "auto" and (wrong := engine.unknown_format(value)):
        raise click.BadParameter(wrong)
    return value


def declared(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options --format and --task, as a site in a configuration has them."""
    task = click.option(
        "--task",
        type=click.Choice(TASKS),
        default="auto",
        show_default=True,
        help="What the labels are for, where it is not recognised.",
    )
    format_ = click.option(
        "--format",
        "format_",
        metavar="NAME",
        callback=known_format,
        default="auto",
        show_default=True,
        help="The folder's format, where it is not recognised; see docs/data.md.",
    )
    return format_(task(command))
