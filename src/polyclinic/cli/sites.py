"""Which folders are sites, and the table that shows what was recognised in them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polyclinic.cli import engine
from polyclinic.cli.output import table
from polyclinic.errors import DataError

if TYPE_CHECKING:
    from polyclinic.data.dataset import Scan


@dataclass(frozen=True)
class FoundSite:
    """A folder in which a reader recognised a data set."""

    name: str
    path: Path
    scan: "Scan"


@dataclass(frozen=True)
class Skipped:
    """A folder that is no site, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Found:
    """What `find_sites` saw."""

    sites: tuple[FoundSite, ...]
    skipped: tuple[Skipped, ...]
    corpus: Path
    corpus_images: int


def find_sites(folder: Path, corpus: Path | None) -> Found:
    """Scan each subfolder of `folder` (or of `folder/sites`, if there is one) as a site.

    The corpus is `corpus`, else `folder/corpus`; it is never taken for a site. Raises `DataError`
    without a corpus or without a single site.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "no such folder"
        raise DataError(f"{folder}: {what}; expected a folder with a subfolder for each site")
    home = folder / "sites" if (folder / "sites").is_dir() else folder
    corpus = corpus or folder / "corpus"
    if not corpus.is_dir():
        raise DataError(
            f"{corpus}: no such folder; expected the corpus of public images without labels "
            "there; name another folder with --corpus"
        )
    corpus_images = len(engine.scan_corpus(corpus).items)
    sites: list[FoundSite] = []
    skipped: list[Skipped] = []
    for path in sorted(home.iterdir()):
        if not path.is_dir() or path.name.startswith(".") or path.samefile(corpus):
            continue
        try:
            scan = engine.scan_site(path)
        except DataError as error:
            skipped.append(Skipped(path, str(error)))
        else:
            sites.append(FoundSite(_unused(path.name, sites), path, scan))
    if not sites:
        reasons = "; ".join(skip.reason for skip in skipped[:3]) or "it has no subfolders"
        raise DataError(f"{home}: none of its subfolders is a site that can be read: {reasons}")
    return Found(tuple(sites), tuple(skipped), corpus, corpus_images)


def as_name(text: str) -> str:
    """`text` with whatever no name may hold replaced by `-`.

    >>> as_name("St. Mary's (2024)")
    'St-Mary-s-2024'
    """
    words = "".join(c if c.isalnum() or c == "_" else " " for c in text).split()
    return "-".join(words).strip("_-") or "site"


def sites_text(sites: Sequence[FoundSite]) -> str:
    """A table of the sites, then a line for each warning or error about them."""
    header = ["site", "format", "task", "images", "classes", "patients", "findings"]
    rows = []
    for site in sites:
        scan = site.scan
        patients = len({item.patient for item in scan.items}) if scan.has_patient_ids else "-"
        counts = Counter(finding.severity for finding in scan.findings)
        noted = ", ".join(f"{counts[s]} {s}" for s in ("error", "warning", "info") if counts[s])
        classes = len(scan.classes) or "-"
        rows.append(
            [site.name, scan.format, scan.task, len(scan.items), classes, patients, noted or "none"]
        )
    lines = [table(header, rows)]
    for site in sites:
        for finding in site.scan.findings:
            if finding.severity != "info":
                where = f"{site.name}/{finding.where}" if finding.where else site.name
                advice = f"; {finding.do}" if finding.do else ""
                lines.append(f"{finding.severity}: {where}: {finding.what}{advice}")
    return "\n".join(lines)


def site_json(site: FoundSite) -> dict[str, Any]:
    """A site as `--json` shows it."""
    scan = site.scan
    return {
        "name": site.name,
        "path": str(site.path),
        "format": scan.format,
        "task": scan.task,
        "images": len(scan.items),
        "classes": list(scan.classes),
        "patients": len({i.patient for i in scan.items}) if scan.has_patient_ids else None,
        "findings": [
            {"severity": f.severity, "where": f.where, "what": f.what, "do": f.do}
            for f in scan.findings
        ],
    }


def _unused(name: str, sites: Sequence[FoundSite]) -> str:
    wanted, taken = as_name(name), {site.name for site in sites}
    names = [wanted, *(f"{wanted}-{i}" for i in range(2, len(sites) + 3))]
    return next(n for n in names if n not in taken)
