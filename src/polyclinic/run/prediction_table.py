"""The table of predictions while it grows: rows in whole groups, so that a kill loses no order."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType

from polyclinic.data.writing import writing
from polyclinic.errors import RunError
from polyclinic.models.state import disk_error
from polyclinic.run.lock import locked


class GrowingTable:
    """Writes `path` row by row as `path.part`, with a note beside it of what it is made of and how
    far it has come, which stays.

    `fingerprint` names what is computed: a part of something else is never continued. `done` is
    the number of rows that an earlier process finished. Without `resume` nothing may be there. A
    second process is refused while one writes.
    """

    def __init__(
        self, path: Path, columns: Sequence[str], fingerprint: str, *, resume: bool
    ) -> None:
        self.path = path
        self.part = path.with_name(path.name + ".part")
        self.note = path.with_name(path.name + ".json")
        self.done = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = locked(
                path.with_name(f".{path.name}.lock"),
                f"{path}: another process is writing it; wait for it, or choose another --out",
            )
        except OSError as error:
            raise disk_error(error, path) from None
        try:
            self._open(columns, fingerprint, resume=resume)
        except BaseException:
            self._lock.close()
            raise

    def _open(self, columns: Sequence[str], fingerprint: str, *, resume: bool) -> None:
        path = self.path
        self.complete = path.exists()
        if not resume and (self.complete or self.part.exists()):
            what = "exists already" if self.complete else "was begun by an earlier call"
            raise RunError(f"{path}: {what}; add --resume, or choose another --out")
        self._fingerprint = fingerprint
        if self.complete:
            self._continued()
            return
        try:
            length = self._continued() if resume else 0
            self._file = self.part.open("r+b" if self.part.exists() else "w+b")
            self._file.truncate(length)
            self._file.seek(length)
            if not length:
                self._write([columns])
                self._remember()
        except OSError as error:
            raise disk_error(error, self.part) from None

    def add(self, rows: Sequence[Sequence[str]]) -> None:
        """Append a group of rows; after a kill it is there whole or not at all."""
        try:
            self._write(rows)
            self.done += len(rows)
            self._remember()
        except OSError as error:
            raise disk_error(error, self.part) from None

    def finish(self) -> None:
        """The table is complete: it takes its name."""
        if self.complete:
            return
        self._file.close()
        self.part.replace(self.path)
        self.complete = True

    def __enter__(self) -> "GrowingTable":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self.complete:
            self._file.close()
        self._lock.close()

    def _continued(self) -> int:
        """Bytes of the part that an earlier call finished; `done` is set to its rows."""
        if not (self.note.exists() and (self.complete or self.part.exists())):
            if self.complete:
                raise RunError(
                    f"{self.path}: exists already, and {self.note.name}, which says what of, does "
                    "not; choose another --out"
                )
            return 0
        try:
            note = json.loads(self.note.read_text(encoding="utf-8"))
            same, rows, length = note["fingerprint"], int(note["rows"]), int(note["bytes"])
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"{self.note}: cannot be read ({error}); delete it and {self.part.name}, and begin "
                "again without --resume"
            ) from None
        if same != self._fingerprint:
            raise RunError(
                f"{self.path}: was begun with another model, input or --batch; give the same ones, "
                "or choose another --out"
            )
        if not self.complete and self.part.stat().st_size < length:
            raise RunError(f"{self.part}: shorter than its note says; delete both, and begin again")
        self.done = rows
        return length

    def _write(self, rows: Iterable[Sequence[str]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        self._file.write(text.getvalue().encode("utf-8"))
        self._file.flush()

    def _remember(self) -> None:
        note = {"fingerprint": self._fingerprint, "rows": self.done, "bytes": self._file.tell()}
        with writing(self.note) as part:
            part.write_text(json.dumps(note), encoding="utf-8")
