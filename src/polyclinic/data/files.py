"""Which files of a folder may be read: no hidden ones, no links that lead out of the folder."""

import os
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path, PurePosixPath

from polyclinic.data.dataset import Finding, counted
from polyclinic.errors import DataError

IMAGE_EXTENSIONS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
MAX_FINDINGS = 20
"""Findings of one kind that are listed one by one; the rest become one summary."""

MAX_TEXT = 2**28
"""Bytes of a table; larger ones are refused."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SYSTEM_FILES = {"thumbs.db", "desktop.ini", "__macosx", "@eadir"}


def is_image(name: str) -> bool:
    """Whether the extension is one of `IMAGE_EXTENSIONS`, in small or capital letters."""
    return name.lower().endswith(IMAGE_EXTENSIONS)


def is_hidden(name: str) -> bool:
    """Whether an operating system put this there, not the user."""
    return name.startswith(".") or name.lower() in _SYSTEM_FILES


def plain(text: str) -> str:
    """`text` on one line: a space for each character that breaks lines or steers terminals.

    So do halves of characters that no file in UTF-8 can hold; names in tables and headers come
    from anywhere.

    >>> plain("liver\\x1b[2J\\n")
    'liver [2J '
    """
    return _CONTROL.sub(" ", text)


def escaped(name: str) -> str:
    """A file's name as it can be shown, whatever its bytes are.

    >>> escaped("a\\nb.png")
    'a\\\\x0ab.png'
    """
    readable = os.fsencode(name).decode("utf-8", "backslashreplace")
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", readable)


def read_text(path: Path) -> str:
    """A table in UTF-8, with or without BOM; `DataError` where it is none, or too large."""
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            raise DataError(f"{path}: expected a file with text")
        if path.stat().st_size > MAX_TEXT:
            raise DataError(f"{path}: more than {MAX_TEXT} bytes; refused")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8; save it as UTF-8 (in Excel: `CSV UTF-8`)") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def list_files(folder: Path) -> tuple[tuple[str, ...], tuple[Finding, ...]]:
    """All regular files under `folder`, as sorted relative paths with `/`, and what was refused.

    Links to folders are not followed, and links to files only where they stay inside `folder`:
    a site's data must be in the place that its hospital named, and a walk must end.
    Raises `DataError` when `folder` itself cannot be listed.
    """
    files, refused = walk(folder)
    return files, cap_findings(refused)


def walk(folder: Path) -> tuple[tuple[str, ...], tuple[Finding, ...]]:
    """As `list_files`, with everything that was refused one by one."""
    root = Path(os.path.realpath(folder))
    files: list[str] = []
    findings: list[Finding] = []
    pending = [""]
    while pending:
        prefix = pending.pop()
        try:
            entries = list(os.scandir(f"{folder}/{prefix}"))
        except OSError as error:
            if not prefix:
                raise DataError(f"{folder}: cannot be listed ({error.strerror})") from None
            what = f"cannot be listed ({error.strerror})"
            findings.append(Finding("error", prefix, what, "allow reading"))
            continue
        for entry in entries:
            name = f"{prefix}/{entry.name}" if prefix else entry.name
            if is_hidden(entry.name):
                continue
            refusal = _refusal(entry, name, root)
            if refusal:
                findings.append(refusal)
            elif entry.is_dir(follow_symlinks=False):
                pending.append(name)
            elif entry.is_file():
                files.append(name)
            else:
                what = "is a pipe or a device; not opened"
                findings.append(Finding("warning", name, what, "remove it"))
    findings.sort(key=lambda finding: finding.where)
    return tuple(sorted(files)), tuple(findings)


def _refusal(entry: "os.DirEntry[str]", name: str, root: Path) -> Finding | None:
    if _CONTROL.search(name):
        halves = any("\ud800" <= letter <= "\udfff" for letter in name)
        what = "is not valid UTF-8" if halves else "holds control characters"
        return Finding("warning", escaped(name), f"the file's name {what}", "rename it")
    if not entry.is_symlink():
        return None
    target = Path(os.path.realpath(entry.path))
    if not target.is_relative_to(root):
        what = "is a link that leads out of the site's folder; refused"
        return Finding("warning", name, what, "copy the files into the folder")
    if not target.exists():
        return Finding("warning", name, "is a broken link", "remove it")
    if target.is_dir():
        return Finding("info", name, "is a link to a folder; not followed")
    return None


def inside(root: Path, relative: str) -> Path | None:
    """The path of `relative` in `root`, or None where it leads out of it.

    `root` must be resolved already, so that thousands of calls do not resolve it again.
    """
    try:
        resolved = os.path.realpath(root / relative)
    except ValueError:  # a null byte
        return None
    return Path(resolved) if resolved.startswith(f"{root}{os.sep}") else None


def other_files(files: Iterable[str], expected: Collection[str] = ()) -> tuple[Finding, ...]:
    """One finding for the files that are neither images nor `expected`."""
    others = [name for name in files if not is_image(name) and name not in expected]
    if not others:
        return ()
    kinds = sorted({PurePosixPath(name).suffix.lower() or "no extension" for name in others})
    what = f"{counted(len(others), 'file')} other than images, left out ({', '.join(kinds[:6])})"
    return (Finding("info", others[0], what),)


def cap_findings(findings: Sequence[Finding], limit: int = MAX_FINDINGS) -> tuple[Finding, ...]:
    """The first `limit` findings and, where there are more, one that counts the rest."""
    if len(findings) <= limit:
        return tuple(findings)
    rest = f"{counted(len(findings) - limit, 'more finding')} of this kind"
    severity = max((f.severity for f in findings[limit:]), key=["info", "warning", "error"].index)
    return (*findings[:limit], Finding(severity, "", rest))
