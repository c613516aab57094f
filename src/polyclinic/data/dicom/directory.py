"""DICOMDIR: the table of contents of a disc."""

from pathlib import Path

from polyclinic.data.dicom.header import quiet, read_dataset, reason_of
from polyclinic.errors import DataError


def listed_files(path: Path, name: str) -> tuple[str, ...]:
    """The files that a DICOMDIR lists, relative to its folder, with `/`.

    Raises `DataError`, which calls it `name`, where it cannot be read.
    """
    dataset = read_dataset(path, name)
    found: dict[str, None] = {}
    try:
        with quiet():
            for record in dataset.get("DirectoryRecordSequence") or ():
                parts = record.get("ReferencedFileID")
                if parts:
                    words = [parts] if isinstance(parts, str) else list(map(str, parts))
                    found["/".join(word.strip() for word in words)] = None
    except Exception as error:  # values in headers can be wrong in many ways
        raise DataError(f"{name}: not a readable DICOMDIR ({reason_of(error)})") from None
    return tuple(found)
