"""The report of a run: one self-contained HTML page, for the screen and for paper."""

from pathlib import Path

from polyclinic.report.layout import read_results, results_schema
from polyclinic.report.page import template, write_page

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
    return write_page(run / "report.html", template("report.html").render(view(results, run)))
