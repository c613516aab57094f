"""Finished cells of a benchmark that takes hours: a line of JSON each, added as it is finished."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import records
import tuning
from eight_sites_study import digest
from polyclinic.config import Config, config_to_dict
from polyclinic.errors import RunError
from polyclinic.federation.ledger import digest as digest_of_bytes
from polyclinic.models.device import precision
from polyclinic.run.experiment import Prepared

Record = dict[str, Any]
SEEDS = (0, 1, 2)
PLACES = ("sites", "corpus", "name", "seeds", "jobs", "hold_out")
"""Parts of a configuration that say where and how often, not what."""


def parser_of(name: str, about: str | None) -> argparse.ArgumentParser:
    """The options of a benchmark called `name` that is done cell by cell."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="?", type=Path, metavar="DATA")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--starts", type=Path, default=Path("runs/tuning"), help="kept here")
    parser.add_argument("--smoke", action="store_true", help="next to no training, made-up images")
    parser.add_argument("--out", type=Path, default=records.RESULTS / f"{name}.json")
    return parser


class Cells:
    """The cells in the file `path`; `RunError` where they were made otherwise than `made` says.

    A line that was cut short is not counted.
    """

    def __init__(self, path: Path, made: Mapping[str, Any]) -> None:
        self.path, self.made = path, digest(dict(made))
        self.rows: list[Record] = records.whole_rows(path)
        if any(row["made"] != self.made for row in self.rows):
            raise RunError(
                f"{path}: its cells are of other settings or other data; name another --out, or "
                "delete the file"
            )
        path.parent.mkdir(parents=True, exist_ok=True)

    def has(self, key: Mapping[str, Any]) -> bool:
        """Whether a cell with all of `key` is there."""
        return any(key.items() <= row.items() for row in self.rows)

    def add(self, key: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        """Keep a finished cell, at once, with where and from what it was made."""
        row = {**key, **found, "made": self.made, **tuning.about()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self.rows.append(row)


def made_of(config: Config, data: Prepared) -> Record:
    """What decides the figures of a cell, besides its own name: settings and images."""
    sites = sorted(data.sites.items())
    return {
        "settings": settings_of(config),
        "precision": str(precision()),
        "images": {name: digest_of_bytes(site.images.tobytes()) for name, site in sites},
        "targets": {name: digest_of_bytes(site.targets.tobytes()) for name, site in sites},
        "corpus": digest_of_bytes(data.corpus.tobytes()),
    }


def settings_of(config: Config) -> Record:
    """A configuration without places: what every cell of a result has in common."""
    return {key: value for key, value in config_to_dict(config).items() if key not in PLACES}
