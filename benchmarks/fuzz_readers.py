"""Feed damaged folders to every reader: does anything crash, hang, take memory, or write?

    python benchmarks/fuzz_readers.py                  # 10,500 inputs, half an hour of a core
    python benchmarks/fuzz_readers.py --inputs 200     # seconds
    python benchmarks/fuzz_readers.py --only 4711      # one input again, by its number

Small valid sites of every format (made up; with `--dicom`, real DICOM files too) are damaged in
13 ways: one fault or two, drawn from the seed and the input's number alone. A process of its own
then looks at each as users do: `data check` with all its checks, which recognises the format; the
reader by name; the corpus reader; the listing of `predict`. It decodes what the readers list.

An input fails where anything but a finding or a `PolyclinicError` of one printable line comes out,
where the process ends or takes more than `--seconds` of processor time, where its resident memory
grows by more than `--mib`, where it prints, and where a byte, a name, a time or a right of the
folder, of the folder beside it, or of the process's home, temporary and working folder has changed.
"""

import argparse
import contextlib
import faulthandler
import hashlib
import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

import records
from fuzz_faults import KINDS, OUTSIDE, SHARES
from fuzz_sites import Site, real_dicom, sites

SEED = 0
INPUTS = 10_500
SECONDS = 30.0
"""Processor time. A folder of a few kilobytes that takes longer hangs, for a user."""
WAITS = 20
"""So many times as long, by the clock, may pass: who waits for ever uses no processor."""
MIB = 3072
"""Resident memory that an input may add: some copies of the largest image that is accepted."""
ADDRESS_SPACE = 10 * 2**30
"""Bytes that the process may reserve: a safeguard for the machine, far above what is accepted."""
SAID = "said.txt"
"""What the process prints, in a file beside the watched folders."""
LOADS = 8
"""Images that are decoded for each reader."""
REAL_AT_ONCE = 4
"""Real DICOM files in one input."""
PACKAGES = ("polyclinic", "numpy", "pillow", "pydicom", "nibabel", "pylibjpeg")
CONTROL = {*range(32), 127, *range(0x80, 0xA0)}


class BrokenPromiseError(Exception):
    """A reader gave what it promises not to give."""


def promise(kept: bool, what: str) -> None:
    """Raise `BrokenPromiseError` where it was not kept."""
    if not kept:
        raise BrokenPromiseError(what)


class Worker:
    """A process that looks at folders; begun anew after it ended."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._context = multiprocessing.get_context("spawn")
        self._begin()

    def _begin(self) -> None:
        self._ours, theirs = self._context.Pipe()
        self._process = self._context.Process(
            target=_serve, args=(theirs, str(self._home), LOOK), daemon=True
        )
        self._process.start()
        theirs.close()
        self._ours.recv()  # it is ready

    def look(self, folder: Path, name: str, seconds: float) -> dict[str, Any]:
        """What came of looking at a site's folder, read as `name` too."""
        began, used = time.monotonic(), self._used()
        self._ours.send((str(folder), name))
        try:
            while not self._ours.poll(0.5):
                if self._used() - used > seconds or time.monotonic() - began > WAITS * seconds:
                    break
            else:
                return {**self._ours.recv(), "seconds": self._used() - used}
            fault = {"hang": f"still busy after {seconds:g} s: {self._place()}"}
        except (EOFError, ConnectionError):
            self._process.join()
            fault = {"died": f"ended with {self._process.exitcode}"}
        self._process.kill()
        self._process.join()
        self._begin()
        return {"faults": fault, "seconds": seconds, "mib": 0.0}

    def _place(self) -> str:
        """Where in the code it is busy, innermost first."""
        if self._process.pid:
            os.kill(self._process.pid, signal.SIGUSR1)
            time.sleep(1)
        said = (self._home.parent / SAID).read_text(errors="replace")
        return ", ".join(re.findall(r'/(\w+\.py", line \d+)', said)[:4]).replace('", line ', ":")

    def _used(self) -> float:
        """Seconds of processor time so far: other work on the machine is no fault of a reader."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        """Let the process go."""
        self._process.kill()
        self._process.join()


def _serve(requests: Connection, home: str, look_at: Callable[[Path, str], dict[str, Any]]) -> None:
    """The worker's life: everything that it may write to is watched."""
    for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME"):
        os.environ[name] = home
    os.chdir(home)
    said = (Path(home).parent / SAID).open("w+b")
    for number in (1, 2):
        os.dup2(said.fileno(), number)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.enable(said)
    faulthandler.register(signal.SIGUSR1, said)
    if look_at is look:
        warm_up()
    requests.send("ready")
    while True:
        try:
            folder, name = requests.recv()
        except EOFError:
            return
        _forget_peak()
        before = _resident("VmRSS")
        found = look_at(Path(folder), name)
        grown = max(0.0, _resident("VmHWM") - before)
        said.seek(0)
        printed = said.read().decode(errors="replace").splitlines()
        said.seek(0)
        said.truncate()
        if printed:
            found["faults"]["printed"] = f"{len(printed)} lines: {printed[0][:200]}"
        requests.send({**found, "mib": grown})


def warm_up() -> None:
    """Import what is imported on first use, so that it is no input's memory."""
    import nibabel  # noqa: F401
    import pydicom.pixels  # noqa: F401
    import scipy.fft
    import scipy.ndimage  # noqa: F401

    from polyclinic.run import data_check  # noqa: F401


def look(folder: Path, name: str) -> dict[str, Any]:
    """Read a folder in every way; outcomes, and what must not have come of it, by kind."""
    outcomes: Counter[str] = Counter()
    faults: dict[str, str] = {}
    for way in (lambda: _check(folder), lambda: _scan(folder, name)):
        _attempt(way, outcomes, faults)
    for way in (lambda: _scan(folder, "corpus"), lambda: _list(folder)):
        _attempt(way, outcomes, faults)
    return {"outcomes": dict(outcomes), "faults": faults}


LOOK = look
"""What the process does with a folder."""


def _attempt(way: Any, outcomes: Counter[str], faults: dict[str, str]) -> None:
    from polyclinic.errors import PolyclinicError

    try:
        way()
        outcomes["read"] += 1
    except PolyclinicError as error:
        outcomes["refused"] += 1
        if not _printable(str(error)):
            faults["message"] = ascii(str(error))[:300]
    except BrokenPromiseError as error:
        faults["promise"] = str(error)[:300]
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}:{last.lineno}"
        faults["crash"] = ascii(f"{type(error).__name__}: {error} ({where})")[:300]


def _check(folder: Path) -> None:
    """`data check --json`, which must be whole, and valid UTF-8."""
    from polyclinic.run.data_check import as_json, check_data
    from polyclinic.run.progress import silent

    found = as_json(check_data(folder, jobs=1, tell=silent))
    json.dumps(found, allow_nan=False).encode()
    for finding in found["findings"]:
        text = " ".join(finding.values())
        promise(_printable(text), f"finding {text!a}")


def _scan(folder: Path, name: str) -> None:
    """A reader, and its promises about the images that it decodes."""
    from polyclinic.data.dataset import IGNORE
    from polyclinic.data.images import quiet_decoders, to_uint8
    from polyclinic.data.readers import scan_corpus, scan_site
    from polyclinic.errors import DataError

    scan = scan_corpus(folder) if name == "corpus" else scan_site(folder, format=name)
    keys = [item.key for item in scan.items]
    promise(len(set(keys)) == len(keys), "keys that are not unique")
    for text in (*scan.classes, *keys, *(item.patient for item in scan.items)):
        promise(_printable(text), f"name {ascii(text)[:200]}")
    for finding in scan.findings:
        promise(
            _printable(f"{finding.where}{finding.what}"), f"finding {ascii(finding.what)[:200]}"
        )
    count = len(scan.items)
    rows = {*range(min(count, LOADS // 2)), *range(max(0, count - LOADS // 2), count)}
    for row in sorted(rows):
        item = scan.items[row]
        try:
            with quiet_decoders():
                stored, labels = scan.load(item)
            image = to_uint8(stored, item.key)
        except DataError as error:
            promise(_printable(str(error)), f"message {ascii(str(error))[:300]}")
            continue
        promise(image.ndim == 2 or image.shape[2:] == (3,), f"image of shape {image.shape}")
        promise(image.size, "an empty image")
        if labels is not None:
            promise(labels.shape == image.shape[:2], "mask of another size")
            allowed = (labels < len(scan.classes)) | (labels == IGNORE)
            promise(bool(allowed.all()), "a label that is no class")


def _list(folder: Path) -> None:
    """What `predict` would answer, and what it leaves out, for a model that draws masks."""
    from polyclinic.run.prediction_inputs import find_inputs

    inputs = find_inputs(folder, task="segmentation")
    keys = [item.key for item in inputs.items]
    promise(len(set(keys)) == len(keys), "inputs that are not unique")
    for text in (*keys, *inputs.patients.values(), *inputs.left_out, *inputs.left_out.values()):
        promise(_printable(text), f"input {ascii(text)[:200]}")


def _printable(text: str) -> bool:
    """One line of valid text, without anything that a terminal would obey."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return not any(ord(letter) in CONTROL for letter in text)


def _forget_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _resident(key: str) -> float:
    """MiB from /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{key}:"))) / 1024


def plant(number: int, seed: int, base: dict[str, Site], folder: Path) -> tuple[str, list[str]]:
    """Write damaged input `number` to `folder`; the site that it was, and the kinds of faults."""
    rng = np.random.default_rng([seed, number])
    names = sorted(base)
    name = names[number % len(names)]
    files = base[name]
    if name == "real dicom":
        chosen = rng.choice(sorted(files), REAL_AT_ONCE, replace=False)
        files = {one: files[one] for one in chosen}
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    weights = np.array([SHARES.get(kind, 1.0) for kind in KINDS])
    kinds = [
        str(kind)
        for kind in rng.choice([*KINDS], 1 + (rng.random() < 0.2), p=weights / weights.sum())
    ]
    for kind in kinds:
        KINDS[kind](folder, rng)
    return name, kinds


def state(folder: Path) -> str:
    """A digest of all names, contents, times and rights below a folder."""
    digest = hashlib.blake2b()
    for line in sorted(_entries(folder)):
        digest.update(line)
    return digest.hexdigest()


def _entries(folder: Path) -> Iterator[bytes]:
    for parent, folders, files, place in os.fwalk(folder):
        for name in (*folders, *files, "."):
            facts = os.stat(name, dir_fd=place, follow_symlinks=False)
            held = hashlib.blake2b()
            if facts.st_size and (facts.st_mode & 0o170000) == 0o100000:
                with open(os.open(name, os.O_RDONLY, dir_fd=place), "rb") as file:  # noqa: PTH123
                    held.update(file.read())
            numbers = (facts.st_mode, facts.st_size, facts.st_mtime_ns, held.hexdigest())
            yield os.fsencode(parent[-200:]) + os.fsencode(name) + repr(numbers).encode()


def run(
    numbers: range,
    seed: int,
    base: dict[str, Site],
    *,
    seconds: float,
    mib: float,
    tell: Any = None,
) -> dict[str, Any]:
    """Look at all inputs; the figures, and every input that failed."""
    failed: list[dict[str, Any]] = []
    by_site: Counter[str] = Counter()
    by_kind: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    worst: dict[str, dict[str, Any]] = defaultdict(dict)
    with tempfile.TemporaryDirectory() as work:
        home, beside = Path(work) / "home", Path(work) / OUTSIDE
        home.mkdir()
        beside.mkdir()
        (beside / "secret.png").write_bytes(base["class-folders"]["cold/00000.png"])
        (beside / "note.txt").write_text("not for the site")
        worker = Worker(home)
        try:
            for number in numbers:
                folder = Path(work) / "site"
                folder.mkdir()
                name, kinds = plant(number, seed, base, folder)
                watched = (folder, beside, home)
                before = [state(one) for one in watched]
                found = worker.look(
                    folder, name.partition(" ")[0].replace("real", "class-folders"), seconds
                )
                faults = found["faults"]
                if [state(one) for one in watched] != before:
                    faults["wrote"] = "a folder has changed"
                if found["mib"] > mib:
                    faults["memory"] = f"{found['mib']:.0f} MiB"
                by_site[name] += 1
                by_kind.update(kinds)
                outcomes.update(found.get("outcomes", {}))
                for key in ("seconds", "mib"):
                    if found[key] > worst[key].get(key, -1):
                        worst[key] = {
                            key: round(found[key], 2),
                            "input": number,
                            "site": name,
                            "kinds": kinds,
                        }
                if faults:
                    failed.append({"input": number, "site": name, "kinds": kinds, "faults": faults})
                    if tell:
                        tell(json.dumps(failed[-1]))
                shutil.rmtree(folder)
                if tell and number % 500 == 499:
                    tell(f"{number + 1} inputs, {len(failed)} failed")
        finally:
            worker.end()
    return {
        "inputs": len(numbers),
        "failed": len(failed),
        "by_site": dict(sorted(by_site.items())),
        "by_kind": dict(sorted(by_kind.items())),
        "outcomes": dict(outcomes),
        "worst_time": worst["seconds"],
        "worst_memory": worst["mib"],
        "failures": failed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=INPUTS)
    parser.add_argument("--only", type=int, help="this input alone; nothing is written")
    parser.add_argument("--keep", type=Path, help="with --only: write the input to this folder")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="of processor time, for one input"
    )
    parser.add_argument("--mib", type=float, default=MIB, help="that one input may add")
    parser.add_argument("--dicom", type=Path, default=records.ROOT / "../shared/data/dicom")
    parser.add_argument("--out", type=Path, default=records.RESULTS / "fuzz_readers.json")
    options = parser.parse_args()
    sys.setrecursionlimit(10_000)  # to watch and to remove deeply nested folders
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    real = real_dicom(options.dicom)
    base = sites(options.seed) | ({"real dicom": real} if real else {})
    if options.keep:
        options.keep.mkdir(parents=True)
        print(plant(options.only, options.seed, base, options.keep))
        return
    one = options.only is not None
    numbers = range(options.only, options.only + 1) if one else range(options.inputs)
    result = records.circumstances(PACKAGES, seed=options.seed)
    result |= {"limits": {"seconds": options.seconds, "mib": options.mib}, "real_dicom": len(real)}
    began = time.perf_counter()
    result |= run(
        numbers,
        options.seed,
        base,
        seconds=options.seconds,
        mib=options.mib,
        tell=lambda line: print(line, flush=True),
    )
    result |= {"seconds": round(time.perf_counter() - began, 1), "pass": not result["failed"]}
    print(json.dumps({k: result[k] for k in ("inputs", "failed", "worst_time", "worst_memory")}))
    if not one and options.inputs >= INPUTS:
        records.write(result, options.out)
    sys.exit(0 if result["pass"] else 1)


if __name__ == "__main__":
    main()
