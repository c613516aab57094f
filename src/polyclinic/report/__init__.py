"""The report of a run: one self-contained HTML page, for the screen and for paper."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from polyclinic.errors import RunError
from polyclinic.report.layout import read_results, results_schema

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["results_schema", "write_report"]


def write_report(run: Path) -> Path:
    """Write `run/report.html` from `run/results.json` and the pictures that it names.

    The page needs nothing else: styles, plots and pictures are within it. The same input gives
    the same bytes. A run that has not finished is shown as far as it got, under a banner.

    Raises `RunError` when the results cannot be used, name a picture outside the run directory,
    or when the page cannot be written.
    """
    from polyclinic.report.view import view

    results = read_results(run)
    page = _template().render(view(results, run)).lstrip()
    path = run / "report.html"
    try:
        _write(path, page)
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error}); check space and rights") from None
    return path


@functools.cache
def _template() -> "Template":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("polyclinic.report", "templates"),
        autoescape=True,  # names of sites, classes and files are text that others wrote
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html")


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
