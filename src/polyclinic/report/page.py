"""The templates of the pages, and how a page gets to the disk."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from polyclinic.data.writing import writing
from polyclinic.errors import RunError

if TYPE_CHECKING:
    from jinja2 import Environment, Template


def template(name: str) -> "Template":
    """The template `name` in `templates/`."""
    return _environment().get_template(name)


def write_page(path: Path, text: str) -> Path:
    """Write a page, whole or not at all, and return its path; `RunError` where that fails.

    The user's umask decides who may read it: the page holds patients' images.
    """
    try:
        with writing(path) as part:
            part.write_text(text.lstrip(), encoding="utf-8", errors="replace", newline="\n")
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error}); check space and rights") from None
    return path


@functools.cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("polyclinic.report", "templates"),
        autoescape=True,  # names of sites, classes and files are text that others wrote
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
