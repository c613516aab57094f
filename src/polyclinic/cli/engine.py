"""The heavy parts, imported when a command calls them, so that `--help` need not wait."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from polyclinic.config import Config
from polyclinic.run.progress import Tell

if TYPE_CHECKING:
    from polyclinic.data.dataset import Scan
    from polyclinic.data.readers.reader import TaskChoice


def scan_site(folder: Path, *, format: str = "auto", task: "TaskChoice" = "auto") -> "Scan":
    """See `polyclinic.data.readers.scan_site`."""
    from polyclinic.data import readers

    return readers.scan_site(folder, format=format, task=task)


def scan_corpus(folder: Path) -> "Scan":
    """See `polyclinic.data.readers.corpus.scan_corpus`."""
    from polyclinic.data.readers import corpus

    return corpus.scan_corpus(folder)


def write_phantoms(
    folder: Path, *, seed: int, images_per_site: int, tell: Callable[[str], None]
) -> None:
    """Made-up sites and a corpus for the demo; see `polyclinic.data.phantoms.write_phantoms`."""
    from polyclinic.data import phantoms

    phantoms.write_phantoms(folder, seed=seed, images_per_site=images_per_site, tell=tell)


def run_experiment(config: Config, out: Path, *, resume: bool, tell: Tell) -> Path:
    """See `polyclinic.run.experiment.run_experiment`."""
    from polyclinic.run import experiment

    return experiment.run_experiment(config, out, resume=resume, tell=tell)


def write_report(run: Path) -> Path:
    """See `polyclinic.report.write_report`."""
    from polyclinic import report

    return report.write_report(run)
