"""How long `polyclinic data check` takes for 10,000 small images on two cores.

    python benchmarks/data_check_speed.py            # two minutes
    python benchmarks/data_check_speed.py --smoke    # seconds: does it work?

Made-up grey images of 64 px, half PNG and half JPEG, in class folders. The command runs as users
start it, a process of its own, once with the pages of the files in memory (they have just been
written), with and without the contact sheet.

Claim: under 60 s. On a machine with other work the clock says more about that than about the
command, so that its processor time stands beside it: of all its processes, and divided by their
number, which is what an idle machine would need at least. `others_busy` is the share of the two
cores that other processes used meanwhile.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

import records

IMAGES = 10_000
SIDE = 64  # px
JOBS = 2
LIMIT = 60.0  # s
SEED = 0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="300 images")
    parser.add_argument(
        "--out", type=Path, help="result file (default benchmarks/results/data_check_speed.json; "
        "with --smoke none)"
    )  # fmt: skip
    arguments = parser.parse_args()
    images = 300 if arguments.smoke else IMAGES
    result = records.circumstances(["polyclinic", "numpy", "pillow", "scipy"], seed=SEED)
    result |= {"images": images, "side_px": SIDE, "jobs": JOBS}
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / "site"
        write_site(site, images)
        result["plain"] = _measured(site)
        result["with_contact_sheet"] = _measured(site, "--html", f"{folder}/sheet.html")
    result["pass"] = result["plain"]["seconds"] < LIMIT
    result["pass_by_processor_time"] = result["plain"]["processor_seconds_per_job"] < LIMIT
    print(json.dumps({k: result[k] for k in ("plain", "with_contact_sheet", "pass")}))
    if arguments.out or not arguments.smoke:
        records.write(result, arguments.out or records.RESULTS / "data_check_speed.json")


def write_site(site: Path, images: int) -> None:
    """Blobs of four classes on a gradient, with noise; no two alike."""
    rng = np.random.default_rng(SEED)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    for number in range(images):
        kind = number % 4
        cx, cy, width = *rng.uniform(0.25, 0.75, 2), rng.uniform(0.05, 0.2)
        blob = np.exp(-(((x - cx) / width) ** 2 + ((y - cy) / (width * (1 + kind))) ** 2))
        pixels = 60 + 60 * y + 100 * blob + rng.normal(0, 8, (SIDE, SIDE))
        path = site / f"class{kind}" / f"{number:05}.{'png' if number % 8 < 4 else 'jpg'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)


def _measured(site: Path, *options: str) -> dict[str, float]:
    command = [sys.executable, "-m", "polyclinic", "data", "check", str(site), "--quiet"]
    began, used, busy = time.perf_counter(), records.used_by_children(), records.busy_seconds()
    done = subprocess.run([*command, "--jobs", str(JOBS), *options], check=False)
    if done.returncode not in (0, 6, 7):
        raise SystemExit(f"data check ended with {done.returncode}")
    seconds, used = time.perf_counter() - began, records.used_by_children() - used
    others = (records.busy_seconds() - busy - used) / seconds / records.all_cores()
    return {
        "seconds": round(seconds, 2),
        "processor_seconds": round(used, 2),
        "processor_seconds_per_job": round(used / JOBS, 2),
        "others_busy": round(min(1.0, max(0.0, others)), 2),
    }


if __name__ == "__main__":
    main()
