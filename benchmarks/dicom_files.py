"""Read a folder of odd DICOM files: how many are read, refused, and equal to pydicom's decoding.

Every frame of every file is decoded as a site's images are. A file is refused with one line, which
is in the result. Where pydicom's own `pixel_array` works on the file as it is, its values are
compared with the stored values that Polyclinic decodes. What is written to the terminal meanwhile
is counted: it should be nothing.
"""

import argparse
import csv
import os
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import records
from polyclinic.data.dicom.header import one_line, read_dataset
from polyclinic.data.dicom.images import read_image
from polyclinic.data.dicom.pixels import decode, frame_count
from polyclinic.errors import DataError

FILES = records.ROOT / "../shared/data/dicom"
PACKAGES = ("pydicom", "pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "numpy", "pillow")


def measure(path: Path, syntax: str) -> dict[str, Any]:
    start = time.perf_counter()
    record: dict[str, Any] = {"file": path.name, "transfer_syntax": syntax}
    frames = 0
    try:
        dataset = read_dataset(path, path.name)
        stored = []
        for number in range(frame_count(dataset, path.name)):
            stored.append(decode(dataset, path.name, number).values)
            image = read_image(Path(f"{path}#{number}") if number else path, path.name)
            record["image"] = list(image.shape)
            frames += 1
        record |= {"read": True, "frames": frames, "equal_to_pydicom": equal(path, stored)}
    except DataError as error:
        record |= {"read": False, "reason": str(error).removeprefix(f"{path.name}: ")}
        record["one_line"] = "\n" not in str(error)
        record["pydicom_reads_it"] = equal(path, []) is not None
    except Exception:
        record |= {"read": False, "traceback": traceback.format_exc(limit=-1)}
    record["seconds"] = round(time.perf_counter() - start, 3)
    return record


def equal(path: Path, stored: list[np.ndarray]) -> bool | None:
    """Whether pydicom's `pixel_array` holds the same values; None where it does not work."""
    import pydicom

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            expected = pydicom.dcmread(path).pixel_array
        except Exception:
            return None
    found = stored[0] if len(stored) == 1 else np.stack(stored) if stored else np.zeros(0)
    return bool(np.array_equal(found, expected))


def written_meanwhile(work: Any) -> tuple[Any, list[str]]:
    """What `work` returns, and the lines that it or any library wrote to the terminal."""
    with tempfile.TemporaryFile() as held:
        before = os.dup(1), os.dup(2)
        os.dup2(held.fileno(), 1)
        os.dup2(held.fileno(), 2)
        try:
            result = work()
        finally:
            for number, kept in zip((1, 2), before, strict=True):
                os.dup2(kept, number)
                os.close(kept)
        held.seek(0)
        return result, held.read().decode(errors="replace").splitlines()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=Path, default=FILES, help="folder with INDEX.csv")
    parser.add_argument("--out", type=Path, default=records.RESULTS / "dicom_files.json")
    parser.add_argument("--smoke", action="store_true", help="five files, to see that it works")
    options = parser.parse_args()
    with (options.files / "INDEX.csv").open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))[: 5 if options.smoke else None]
    syntaxes = {row["file"]: row["transfer_syntax"] for row in rows}

    def work() -> list[dict[str, Any]]:
        return [measure(options.files / name, syntax) for name, syntax in syntaxes.items()]

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        files, lines = written_meanwhile(work)
    read = [record for record in files if record["read"]]
    comparable = [record for record in read if record["equal_to_pydicom"] is not None]
    summary = {
        "files": len(files),
        "read": len(read),
        "refused": sum("reason" in record for record in files),
        "tracebacks": sum("traceback" in record for record in files),
        "refused_in_one_line": sum(record.get("one_line", False) for record in files),
        "refused_but_read_by_pydicom": sum(r.get("pydicom_reads_it", False) for r in files),
        "pydicom_reads_too": len(comparable),
        "equal_to_pydicom": sum(record["equal_to_pydicom"] for record in comparable),
        "warnings": len(caught),
        "lines_on_the_terminal": len(lines),
        "seconds": round(sum(record["seconds"] for record in files), 1),
        "slowest_seconds": max(record["seconds"] for record in files),
    }
    for record in files:
        if "reason" in record:
            print(f"refused: {record['file']}: {one_line(record['reason'], 200)}")
    print(summary)
    result = {"summary": summary, "files": files, **records.circumstances(PACKAGES, seed=0)}
    if not options.smoke:
        records.write(result, options.out)


if __name__ == "__main__":
    main()
