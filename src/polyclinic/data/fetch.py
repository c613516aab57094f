"""Files from the network: resumed where they stopped, and kept only if their checksum is right."""

import contextlib
import errno
import hashlib
import http
import http.client
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from polyclinic.data.medmnist import SOURCE, Download
from polyclinic.errors import ConfigError, DataError, RunError

CHUNK = 2**20
TIMEOUT = 30.0
"""Seconds without a byte after which the network counts as gone."""

Report = Callable[[int, int | None], None]
"""Called with the bytes that are there, and with those of the whole file where that is known."""


def fetch_medmnist(
    wanted: Download,
    folder: Path,
    *,
    source: str,
    report: Report = lambda _done, _total: None,
) -> bool:
    """Fetch `wanted` from `source` into `folder`; False where it was there already.

    What came is kept in `FILE.part` until it is whole, so that the next call goes on from there.
    Raises `DataError` where there is no network, where the server refuses, and where the checksum
    differs: then nothing is kept. `ConfigError` where `source` is no web address, `RunError` where
    `folder` cannot be written.
    """
    _require_address(source)
    target = folder / wanted.file
    try:
        with _made(folder):
            return _fetched(wanted, target, source, report)
    except OSError as error:
        raise _disk_error(error, target) from None


def _fetched(wanted: Download, target: Path, source: str, report: Report) -> bool:
    if target.exists():
        if checksum(target) == wanted.md5:
            return False
        raise DataError(
            f"{target}: is another file than MedMNIST's (its MD5 is not {wanted.md5}); "
            "remove it, or choose another folder"
        )
    part = target.with_name(f"{wanted.file}.part")
    url = f"{source.rstrip('/')}/{wanted.file}?download=1"
    try:
        _receive(url, part, report)
    except (
        urllib.error.URLError,
        http.client.HTTPException,
        TimeoutError,
        ConnectionError,
    ) as error:
        raise DataError(f"{url}: {_explained(error, target)}") from None
    if checksum(part) != wanted.md5:
        part.unlink()
        raise DataError(
            f"{url}: what came is damaged (its MD5 is not {wanted.md5}) and was removed; try again"
        )
    part.rename(target)
    return True


def checksum(path: Path) -> str:
    """MD5 of a file, which is what MedMNIST publishes."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()


def _require_address(source: str) -> None:
    """Raise `ConfigError` where `source` is nothing that can be asked for a file."""
    try:
        parts = urllib.parse.urlsplit(source)
        host = (parts.hostname or "").encode("idna")  # a name that no network could know
        good = parts.scheme in ("https", "http") and host and parts.port != 0
    except ValueError:
        good = False
    if not good or not source.isascii() or not source.isprintable() or " " in source:
        raise ConfigError(
            f"source {source!r}: expected an address that begins with https://, in ASCII and "
            f"without spaces, such as {SOURCE}"
        )


@contextlib.contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Make `folder`; where the block fails, what was made for it and is empty goes again."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for path in made:
            with contextlib.suppress(OSError):  # it holds what came so far
                path.rmdir()
        raise


def _receive(url: str, part: Path, report: Report) -> None:
    """Write what `url` gives to `part`, after what is there already (RFC 9110, section 14)."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "polyclinic", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        answer = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=TIMEOUT
        )
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            return  # all of it is there; the checksum tells
        raise
    with answer:
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
            have = 0  # a server that does not resume sends the whole file
        length = answer.headers.get("Content-Length", "")
        total = have + int(length) if length.isdecimal() else None
        with part.open("ab" if have else "wb") as file:
            for block in _blocks(answer):
                file.write(block)
                have += len(block)
                report(have, total)
    if total is not None and have < total:
        raise http.client.IncompleteRead(b"", total - have)


def _blocks(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """What the server sends. Errors of the network become what no error of the disk is."""
    try:
        while block := answer.read(CHUNK):
            yield block
    except OSError as error:
        raise ConnectionError(str(error)) from error


def _disk_error(error: OSError, target: Path) -> RunError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RunError(
            f"{target}: the disk is full; free some space, then call again to go on from there"
        )
    reason = error.strerror or error
    return RunError(f"{target}: cannot be written ({reason}); choose another folder with --out")


def _explained(error: Exception, target: Path) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answers {error.code} {error.reason}; try again later"
    if isinstance(error, http.client.IncompleteRead | TimeoutError | ConnectionError):
        return "the connection broke off; call again to go on from there"
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return (
        f"cannot be reached ({reason}); this command needs a network: fetch the file on another "
        f"machine and copy it to {target}"
    )
