"""Start a large site: seconds and memory, the first time and from the cache.

A few hundred different images are written once and linked to under many names, in class folders, so
that every file is listed, opened and decoded. Each start is a process of its own. Memory is what
the process holds for itself (anonymous pages); pages of the cache's files, which the system takes
back when it needs them, are counted apart. Of the processes that decode, which are as many as the
cores that may be used, the clock is measured, and their processor time beside it, as other work on
the machine slows the clock alone.

Claim: once its images are decoded, a site starts within seconds; before, its list and labels are
there within seconds, decoding shows progress, and is done once.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import records
from polyclinic.data.prepare import prepare_site
from polyclinic.data.readers import scan_site

DIFFERENT = 500
CLASSES = 10
BATCHES, BATCH_SIZE = 200, 64


def make(folder: Path, images: int, size: int) -> None:
    rng = np.random.default_rng(0)
    first = folder / "class0"
    first.mkdir(parents=True)
    for number in range(min(DIFFERENT, images)):
        coarse = rng.integers(0, 256, (size // 4, size // 4, 3), np.uint8)
        picture = Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)
        picture.save(first / f"{number:06}.png", compress_level=1)
    for number in range(DIFFERENT, images):
        parent = folder / f"class{number % CLASSES}"
        parent.mkdir(exist_ok=True)
        os.link(first / f"{number % DIFFERENT:06}.png", parent / f"{number:06}.png")


def memory(kind: str) -> float:
    """MiB that this process holds now, of the kind `Anon` or `File`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(x.split()[1] for x in lines if x.startswith(f"Rss{kind}:"))) / 1024


def start(folder: Path, cache: Path, size: int) -> dict[str, Any]:
    """Prepare the site, draw batches; what it took."""
    peak, ended = [memory("Anon")], threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            peak[0] = max(peak[0], memory("Anon"))

    before = memory("Anon")
    watcher = threading.Thread(target=watch)
    watcher.start()
    begin, used = time.perf_counter(), time.process_time()
    shares: list[float] = []
    scan = scan_site(folder)
    scanned = time.perf_counter()
    site = prepare_site(
        scan,
        name="large",
        image_size=size,
        largest_side=256,
        split_seed=0,
        val_share=0.15,
        test_share=0.2,
        max_unreadable=0.05,
        cache=cache,
        done=shares.append,
    )
    ready = time.perf_counter()
    rng = np.random.default_rng(0)
    for _ in range(BATCHES):
        site.images[rng.choice(site.split["train"], BATCH_SIZE)].mean()
    ended.set()
    watcher.join()
    return {
        "images": len(site),
        "arrays_mib": round(site.images.nbytes / 2**20, 1),
        "seconds_to_scan": round(scanned - begin, 2),
        "seconds_to_prepare": round(ready - scanned, 2),
        "processor_seconds": round(time.process_time() + records.used_by_children() - used, 2),
        "times_progress_was_told": len(shares),
        "peak_own_mib": round(max(peak) - before, 1),
        "pages_of_files_mib": round(memory("File"), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=32, help="px of a side")
    parser.add_argument("--smoke", action="store_true", help="2,000 images, nothing written")
    parser.add_argument("--one", nargs=2, metavar=("FOLDER", "CACHE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        folder, cache = options.one
        found = start(Path(folder), Path(cache), options.size)
        print(json.dumps(found))
        return
    images = 2_000 if options.smoke else options.images
    with tempfile.TemporaryDirectory() as work:
        folder, cache = Path(work) / "site", str(Path(work) / "cache")
        make(folder, images, options.size)
        results = {}
        for name in ("first", "from_cache"):
            command = [sys.executable, __file__, "--size", str(options.size)]
            done = subprocess.run(
                [*command, "--one", str(folder), cache], check=True, stdout=subprocess.PIPE
            )
            results[name] = json.loads(done.stdout)
            print(name, results[name], flush=True)
    facts = records.circumstances(("numpy", "pillow"), seed=0)
    if not options.smoke:
        result = {"image_size": options.size, "starts": results, **facts}
        records.write(result, records.RESULTS / "large_site.json")


if __name__ == "__main__":
    main()
