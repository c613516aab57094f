"""The templates of the pages, and how a page gets to the disk."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from polyclinic.errors import RunError

if TYPE_CHECKING:
    from jinja2 import Environment, Template


def template(name: str) -> "Template":
    """The template `name` in `templates/`."""
    return _environment().get_template(name)


def write_page(path: Path, text: str) -> Path:
    """Write a page and return its path; `RunError` where that fails."""
    try:
        _write(path, text.lstrip())
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


def _write(path: Path, text: str) -> None:
    """Write beside `path` first, so that a reader never sees half a page.

    The user's umask decides who may read it: the page holds patients' images.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8", errors="replace", newline="\n")
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
