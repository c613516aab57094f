"""The ledgers of a run: each verified, and held against what the server says that arrived."""

import dataclasses
import json
from pathlib import Path

from polyclinic.errors import LedgerError
from polyclinic.federation.verification import Verified, verify

FOLDER = "ledgers"


def verify_ledgers(
    path: Path, key: Path | None = None, against: Path | None = None
) -> list[Verified]:
    """Verify a ledger, all ledgers in a folder, or those of a run directory, by name.

    `key` is the file with the public key of the one site concerned. In a run directory, each
    message that metrics.jsonl names must be in its site's ledger: so a ledger whose end was cut
    off is found too. Of sites on other machines `against`, their server's federation.json, names
    the messages. Raises `LedgerError` where there is no ledger.
    """
    if against is not None:
        known = _told_by_server(against)
        return [_held_against_server(found, known) for found in verify_ledgers(path, key)]
    if path.is_file():
        return [verify(path, key)]
    run = path / FOLDER if (path / FOLDER).is_dir() else None
    files = sorted((run or path).glob("*.jsonl"))
    if run:
        arrived = _arrived(path / "metrics.jsonl")
        files = sorted({*files, *(run / f"{site}.jsonl" for site in arrived)})
    elif (path / "metrics.jsonl") in files:
        files = []
    if not files:
        raise LedgerError(
            f"{path}: no ledger there; expected one (SITE.jsonl), a folder of them, or the "
            "directory of a run whose sites sent something"
        )
    if key is not None and len(files) > 1:
        raise LedgerError(
            f"{path}: {len(files)} ledgers, and one key; a key is a site's own: give the path of "
            "its ledger"
        )
    if not run:
        return [verify(file, key) for file in files]
    return [_held_against(file, key, arrived.get(file.stem, {})) for file in files]


def _held_against(file: Path, key: Path | None, arrived: dict[str, str]) -> Verified:
    """A ledger of a run; `arrived` has the digests of the site's messages, with what they are."""
    if not file.exists():
        gone = (f"there is no ledger, but the server has {len(arrived)} messages of this site",)
        return Verified(file, file.stem, 0, 0, 0, key is not None, "", frozenset(), gone)
    return _missing(verify(file, key), arrived)


def _held_against_server(found: Verified, known: dict[str, dict[str, str]]) -> Verified:
    """A ledger of a site elsewhere; `known` has the digests of each site's messages."""
    if found.site in known:
        return _missing(found, known[found.site])
    names = ", ".join(known)
    text = (
        f"it is of site '{found.site}', and the server knows {names}"
        if found.lines
        else f"it has no line, so whose it is is not known; the server knows {names}"
    )
    return dataclasses.replace(found, problems=(*found.problems, text))


def _missing(found: Verified, arrived: dict[str, str]) -> Verified:
    missing = tuple(
        f"the server has a message that is not there ({what}): lines were removed, perhaps at the "
        "end"
        for digest, what in arrived.items()
        if digest not in found.sent
    )
    return dataclasses.replace(found, problems=found.problems + missing)


def _told_by_server(path: Path) -> dict[str, dict[str, str]]:
    """Site to the digests of its messages that a server let in, from its federation.json."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        found: dict[str, dict[str, str]] = {site: {} for site in record["sites"]}
        for run in record["runs"]:
            about = f"{run['method']}, seed {run['seed']}"
            for stage in run["stages"]:
                for site, said in stage["messages"].items():
                    found[site][said["digest"]] = f"{about}, stage {stage['stage']}"
            for judged in run["judged"]:
                if judged["digest"]:
                    found[judged["site"]][judged["digest"]] = f"{about}, scores"
    except (OSError, ValueError) as error:
        raise LedgerError(
            f"{path}: cannot be read ({error}); expected the federation.json of a server"
        ) from None
    except (KeyError, TypeError, AttributeError) as error:
        raise LedgerError(
            f"{path}: lacks {error}; expected the federation.json of a server of this version"
        ) from None
    return found


def _arrived(metrics: Path) -> dict[str, dict[str, str]]:
    """Site to the digests of its messages that the server let in, with what each was about."""
    found: dict[str, dict[str, str]] = {}
    try:
        text = metrics.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise LedgerError(f"{metrics}: cannot be read ({error}); restore it") from None
    for line in text.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            break  # torn by a kill: no more follows
        if record.get("kind") != "stage":
            continue
        about = f"{record['method']}, seed {record['seed']}, stage {record['stage']}"
        for site, said in record["sites"].items():
            if said.get("digest"):  # runs of earlier versions have none
                found.setdefault(site, {})[said["digest"]] = about
    return found
