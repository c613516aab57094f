"""How many kinds of faults `polyclinic data check` finds, and what it says of sites left alone.

    python benchmarks/planted_faults.py SITES                 # every kind at every site that suits
    python benchmarks/planted_faults.py SITES --kind blank --site breast --images 200

SITES is a folder of sites. Each of 20 kinds of faults is planted, one kind at a time, into a
temporary copy of each site that it makes sense for: five images or patients, drawn by a seed. A
fault counts as found where the check that is meant for it names the file, and did not name it
before. A kind counts as found where at least half of its faults are, over all sites.

Claim: at least 19 of 20 kinds are found. False alarms are the warnings and errors on the untouched
sites; the file names all of them by check.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

import records
from planted_kinds import KINDS, Kind, read_table, write_table

SEED = 0
FAULTS = 5
MIN_KINDS = 19


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sites", type=Path, help="folder with a subfolder for each site")
    parser.add_argument("--site", action="append", help="only this site; may be repeated")
    parser.add_argument("--kind", action="append", choices=KINDS, help="only this kind of fault")
    parser.add_argument("--images", type=int, default=0, help="at most so many of a site's files")
    parser.add_argument("--smoke", action="store_true", help="one site, three kinds")
    parser.add_argument(
        "--out", type=Path, help="result file (default benchmarks/results/planted_faults.json; "
        "none where only a part is run)"
    )  # fmt: skip
    arguments = parser.parse_args()
    part = bool(arguments.smoke or arguments.site or arguments.kind or arguments.images)
    kinds = list(KINDS)[:3] if arguments.smoke else arguments.kind or list(KINDS)
    names = sorted(path.name for path in arguments.sites.iterdir() if path.is_dir())
    names = names[:1] if arguments.smoke else [n for n in names if n in (arguments.site or names)]
    result = records.circumstances(["polyclinic", "numpy", "pillow", "scipy"], seed=SEED)
    result |= {"faults_a_site": FAULTS, "files_at_most": arguments.images or None}
    result |= measure(arguments.sites, names, kinds, arguments.images or 10**9)
    print(json.dumps({k: result[k] for k in ("kinds_tried", "kinds_found", "pass")}))
    if arguments.out or not part:
        records.write(result, arguments.out or records.RESULTS / "planted_faults.json")


def measure(sites: Path, names: list[str], kinds: list[str], most: int) -> dict[str, Any]:
    """Alarms on the untouched sites, and what was found of each kind at each site."""
    untouched: dict[str, dict[str, Any]] = {}
    rows: list[dict[str, Any]] = []
    for name in names:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            before = _findings(_copy(sites / name, Path(folder) / name, most))
        untouched[name] = _alarms(before) | {"seconds": round(time.perf_counter() - began, 1)}
        print(json.dumps({"site": name, "alarms": untouched[name]["by_check"]}), flush=True)
        for kind in kinds:
            if name in KINDS[kind].sites:
                rows.append(_planted(sites / name, KINDS[kind], kind, before, most))
                print(json.dumps(rows[-1]), flush=True)
    tried = [kind for kind in kinds if any(row["kind"] == kind for row in rows)]
    by_kind = {}
    for kind in tried:
        mine = [row for row in rows if row["kind"] == kind]
        found, planted = sum(r["found"] for r in mine), sum(r["planted"] for r in mine)
        by_kind[kind] = {"found": found, "planted": planted, "is_found": 2 * found >= planted}
    kinds_found = sum(row["is_found"] for row in by_kind.values())
    return {
        "kinds_tried": len(tried),
        "kinds_found": kinds_found,
        "pass": kinds_found >= min(MIN_KINDS, len(tried)),
        "by_kind": by_kind,
        "untouched": untouched,
        "rows": rows,
    }


def _planted(
    site: Path, kind: Kind, name: str, before: set[tuple[str, ...]], most: int
) -> dict[str, Any]:
    rng = np.random.default_rng([SEED, sum(map(ord, site.name + name))])
    with tempfile.TemporaryDirectory() as folder:
        copy = _copy(site, Path(folder) / site.name, most)
        places = kind.plant(copy, rng, FAULTS)
        after = _findings(copy)
    news = [finding for finding in after - before if finding[0] in kind.checks]
    missed = [p for p in places if not any(p in where or p in what for _, _, where, what in news)]
    row = {"kind": name, "site": site.name, "planted": len(places)}
    return row | {"found": len(places) - len(missed), "missed": missed}


def _findings(folder: Path) -> set[tuple[str, ...]]:
    """(check, severity, where, what) of every finding about a folder."""
    from polyclinic.run.data_check import check_data
    from polyclinic.run.progress import silent

    checked = check_data(folder, jobs=records.cores(), tell=silent)
    return {
        (name, finding.severity, finding.where, finding.what)
        for name, notes in checked.findings.items()
        for finding in notes
    }


def _alarms(findings: set[tuple[str, ...]]) -> dict[str, Any]:
    alarms = sorted(finding for finding in findings if finding[1] != "info")
    return {"by_check": dict(Counter(check for check, *_ in alarms)), "alarms": alarms}


def _copy(site: Path, to: Path, most: int) -> Path:
    """A copy that can be written to; where it is too large, every k-th file of each folder."""
    for folder in [site, *sorted(path for path in site.rglob("*") if path.is_dir())]:
        target = to / folder.relative_to(site)
        target.mkdir(parents=True)
        files = sorted(path for path in folder.iterdir() if path.is_file())
        step = -(-len(files) // most) if len(files) > most else 1
        for path in files[::step]:
            shutil.copyfile(path, target / path.name)
    if (to / "labels.csv").is_file():
        rows = read_table(to)
        write_table(to, [row for row in rows if (to / row["path"]).is_file()])
    return to


if __name__ == "__main__":
    main()
