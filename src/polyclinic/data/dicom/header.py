"""DICOM files that are opened: with or without preamble, without warnings, within limits."""

import struct
import threading
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from polyclinic.data.files import plain
from polyclinic.errors import DataError

EXTENSIONS = (".dcm", ".dicom", ".ima")
MAX_BYTES = 4 * 2**30
"""Larger files are refused."""
MAX_UNPACKED = 2**29
"""Bytes to which a deflated file may unpack: a small file may say any number."""

_DEFLATED = "1.2.840.10008.1.2.1.99"
_SYNTAXES = {  # by what pydicom found out where the file does not say: implicit, little endian
    (True, True): "1.2.840.10008.1.2",
    (False, True): "1.2.840.10008.1.2.1",
    (False, False): "1.2.840.10008.1.2.2",
}
_FIRST_BYTES = 1024
"""Meta information is within them."""
_BEFORE_META = 128 + 4 + 12
"""Bytes of the preamble, the mark, and the element that says how long the rest is."""
_VRS = frozenset(
    b"AE AS AT CS DA DS DT FL FD IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN "
    b"UR US UT UV".split()
)
_MOST_IN_FIRST = 2**16
"""Bytes of a file's first element: those with a low number are short."""
_CUT_OFF = "End of file reached"
"""With it pydicom warns of a file that ends too early, of which it then keeps nothing."""
_LOCK = threading.RLock()


def is_dicom_name(name: str) -> bool:
    """Whether the extension is one of `EXTENSIONS`, in small or capital letters."""
    return name.lower().endswith(EXTENSIONS)


def is_dicom(path: Path) -> bool:
    """Whether the first bytes are those of a DICOM file; files without a preamble count."""
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            return False
        with path.open("rb") as file:
            return _begins_as_dicom(file.read(_FIRST_BYTES))
    except OSError:
        return False


@contextmanager
def quiet() -> Iterator[list[str]]:
    """Run pydicom without warnings; what it warned of is in the list that this gives, after.

    Hospitals' files break the standard in many ways that do not matter for their pixels. Python's
    filters of warnings are the process's, not the thread's, so that one thread enters at a time.
    """
    said: list[str] = []
    with _LOCK, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield said
        finally:
            said += dict.fromkeys(one_line(str(warning.message)) for warning in caught)


def read_dataset(
    path: Path,
    name: str,
    *,
    pixels: bool = True,
    only: Sequence[str] | None = None,
    notes: list[str] | None = None,
) -> Any:
    """The data set in `path`, whose errors call it `name`.

    Without `pixels` reading ends where they begin, and `only` names the elements that are read.
    What pydicom warned of is added to `notes`. A transfer syntax that the file does not name is
    filled in where the elements show it. Raises `DataError` where it is no DICOM file, damaged,
    or larger than `MAX_BYTES` or `MAX_UNPACKED`.
    """
    pydicom = _pydicom()
    try:
        with path.open("rb") as file:
            head = file.read(_FIRST_BYTES)
        if not _begins_as_dicom(head):
            raise DataError(f"{name}: not a DICOM file; expected one with pixel data")
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{name}: more than {MAX_BYTES} bytes; refused")
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        what = "no such file" if missing else f"cannot be read ({error.strerror})"
        raise DataError(f"{name}: {what}") from None
    try:
        with quiet() as said:
            if _DEFLATED.encode() in head:
                _check_unpacked(path, name)
            dataset = pydicom.dcmread(
                path,
                force=True,
                stop_before_pixels=not pixels,
                specific_tags=None if only is None else list(only),
            )
            _complete(dataset)
    except DataError:
        raise
    except Exception as error:  # damaged files make the parser trip in many ways
        raise DataError(f"{name}: not a readable DICOM file ({reason_of(error)})") from None
    if pixels and not len(dataset) and any(_CUT_OFF in one for one in said):
        raise DataError(f"{name}: cut off: it ends within its pixels; copy it again")
    if notes is not None:
        notes += said
    return dataset


def whole_number(dataset: Any, keyword: str, name: str, default: int | None = None) -> int:
    """An element that is a whole number; `default` where it is missing or empty.

    Raises `DataError` where there is no default, or where it is something else.
    """
    try:
        with quiet():
            value = dataset.get(keyword)
            if value is not None and value != "":
                return int(value)
    except Exception:  # conversion of a value can fail as parsing can
        raise DataError(f"{name}: {keyword} is not a number; expected a whole one") from None
    if default is None:
        raise DataError(f"{name}: has no {keyword}; expected a DICOM image")
    return default


def text(dataset: Any, keyword: str) -> str:
    """An element as text on one line, "" where it is missing or cannot be understood."""
    try:
        with quiet():
            value = dataset.get(keyword)
            return "" if value is None else plain(str(value).strip("\0 "))
    except Exception:  # conversion of a value can fail as parsing can
        return ""


def floats(dataset: Any, keyword: str, count: int) -> tuple[float, ...] | None:
    """An element of `count` numbers; None where it is missing, or anything else."""
    try:
        with quiet():
            values = tuple(float(value) for value in dataset.get(keyword) or ())
    except Exception:  # conversion of a value can fail as parsing can
        return None
    return values if len(values) == count else None


def one_line(text: str, most: int = 100) -> str:
    """At most `most` characters of `text`, on one line."""
    return " ".join(plain(text).split())[:most]


def reason_of(error: BaseException) -> str:
    """What an error of a library says, on one line."""
    return one_line(str(error)) or type(error).__name__


def _pydicom() -> Any:
    try:
        import pydicom
    except ImportError:
        raise DataError(
            "DICOM files need the extra `dicom`; install it with: pip install 'polyclinic[dicom]'"
        ) from None
    return pydicom


def _begins_as_dicom(head: bytes) -> bool:
    """The mark after the preamble, or else a first element of group 0002 or 0008."""
    if head[128:132] == b"DICM":
        return True
    if len(head) < 8:
        return False
    for order in "<>":
        group, _ = struct.unpack(f"{order}HH", head[:4])
        (length,) = struct.unpack(f"{order}I", head[4:8])
        if group in (0x0002, 0x0008):
            return head[4:6] in _VRS or (length < _MOST_IN_FIRST and length % 2 == 0)
    return False


def _complete(dataset: Any) -> None:
    """Give a data set without meta information, or without its transfer syntax, what it lacks."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID

    meta = getattr(dataset, "file_meta", None)
    if meta is None:
        meta = dataset.file_meta = FileMetaDataset()
    found = _SYNTAXES.get(dataset.original_encoding)
    if not meta.get("TransferSyntaxUID") and found and not _is_encapsulated(dataset):
        meta.TransferSyntaxUID = UID(found)


def _is_encapsulated(dataset: Any) -> bool:
    return "PixelData" in dataset and dataset["PixelData"].is_undefined_length


def _check_unpacked(path: Path, name: str) -> None:
    """Refuse a deflated data set that unpacks to more than `MAX_UNPACKED`: pydicom would do it."""
    from pydicom.filereader import read_file_meta_info

    meta = read_file_meta_info(path)
    unpacker, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
    with path.open("rb") as file:
        file.seek(_BEFORE_META + int(meta.FileMetaInformationGroupLength))
        pending = file.read(2**20)
        while pending and not unpacker.eof:
            total += len(unpacker.decompress(pending, 2**24))
            if total > MAX_UNPACKED:
                raise DataError(f"{name}: unpacks to more than {MAX_UNPACKED} bytes; refused")
            pending = unpacker.unconsumed_tail or file.read(2**20)
