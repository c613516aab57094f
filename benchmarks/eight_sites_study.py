"""The comparison on eight sites: what is asked for, where it is kept, who touched the test splits.

WORK/seed-S/
  run/                the seed's run itself, as of `polyclinic run`
  stages/             the universal encoder after each stage, which a run does not keep
  judged/             what a run does not judge itself, one file a cell
PACKS/
  test-touched.json   when, from which commit and with which settings the judging began
  seed-S.npz          what is left of a finished seed (`eight_sites_pack`)
"""

import argparse
import hashlib
import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import records
from polyclinic.config import Config, config_from_dict, config_to_dict
from polyclinic.data.writing import writing
from polyclinic.errors import ConfigError, RunError
from polyclinic.evaluate.protocols import PROTOCOLS
from polyclinic.models.state import disk_error
from polyclinic.run.directory import read_json
from polyclinic.run.predictions import predictions_path

Record = dict[str, Any]
LEAD = "universal"
SEEDS = (0, 1, 2, 3, 4)
SINGLE = "single-source"
"""The encoder of the one other site, trained alone, that is best on a site's validation split."""
LABELS = {"5-labels": 5, "10-labels": 10, "50-labels": 50}
"""Protocols with few labels: how many of each class."""
JUDGED_BY = ("linear-probe", "k-nn", *LABELS, "fine-tune")
"""Every protocol, in the order in which results show them."""
PACKAGES = ["polyclinic", "torch", "numpy", "scipy", "scikit-learn"]
TOUCHED = "test-touched.json"
CHOSEN = {
    "universal.exchange": "cyclic",
    "universal.distil_every": "0",
    "local.stages": "8",
    "local.dense_head_epochs": "1",
    "mim.baseline_epochs": "42",  # as many images as the universal method sees with these
}
"""The settings of the comparison that are not the defaults, chosen on validation images."""
OWN_OPTION = ("sites", "corpus", "name", "seeds", "methods", "jobs", "hold_out", "quick")
"""Keys of a configuration that `--set` does not take."""


@dataclass(frozen=True)
class Study:
    """What is compared, the folder in which it is done, and the one in which finished seeds are."""

    config: Config
    work: Path
    packs: Path

    def of(self, seed: int) -> "Study":
        """The part of it that is one seed."""
        one = replace(self.config, seeds=(seed,))
        return replace(self, config=one, work=self.work / f"seed-{seed}")

    def pack(self, seed: int) -> Path:
        """Where a finished seed is kept."""
        return self.packs / f"seed-{seed}.npz"

    def packed(self) -> list[Path]:
        """The finished seeds, in their order."""
        found = {int(p.stem.removeprefix("seed-")): p for p in self.packs.glob("seed-*.npz")}
        return [found[seed] for seed in sorted(found)]

    @property
    def run(self) -> Path:
        """The run directory."""
        return self.work / "run"

    @property
    def methods(self) -> tuple[str, ...]:
        """Those of the run, and the best single source, which needs sites that train alone."""
        alone = "local" in self.config.methods and len(self.config.sites) > 1
        return (*self.config.methods, *((SINGLE,) if alone else ()))

    def by_run(self, method: str, protocol: str) -> bool:
        """Whether the run itself judges the method by the protocol."""
        return method != SINGLE and protocol in PROTOCOLS

    def cell(self, seed: int, method: str, site: str, protocol: str) -> Path:
        """Where the predictions for a test split are kept."""
        base = self.run if self.by_run(method, protocol) else self.work / "judged"
        return predictions_path(base, seed, method, site, protocol)  # type: ignore[arg-type]

    def choice(self, seed: int, site: str) -> Path:
        """Where it is kept which single source is best at a site."""
        return self.work / "judged" / f"seed-{seed}" / SINGLE / f"{site}.json"

    def stage(self, seed: int, number: int) -> Path:
        """Where the universal encoder after the first `number` stages is kept."""
        return self.work / "stages" / f"seed-{seed}" / f"stage-{number:03d}.safetensors"

    def stage_scores(self, seed: int, number: int) -> Path:
        """Where its validation scores are kept."""
        return self.work / "judged" / f"seed-{seed}" / LEAD / f"stage-{number:03d}.json"

    def settings(self) -> Record:
        """Everything that decides the figures of a seed, without where things lie."""
        said: Record = config_to_dict(self.config)
        del said["corpus"], said["jobs"], said["name"], said["seeds"]
        said["sites"] = [site.name for site in self.config.sites]
        return said | {"labels_per_class": list(LABELS.values())}


def configuration(
    data: Path, seeds: Sequence[int], methods: Sequence[str], pairs: Sequence[str], jobs: int
) -> Config:
    """All sites of `data`, with `KEY=VALUE` pairs in place of defaults; `ConfigError` where wrong.

    A value is one of TOML; text needs no quotes.
    """
    if not (data / "sites").is_dir():
        raise ConfigError(f"{data}: expected a folder with sites/ and corpus/, found no sites/")
    if LEAD not in methods:
        raise ConfigError(f"--methods: expected {LEAD} among them, got {', '.join(methods)}")
    folders = sorted(path for path in (data / "sites").iterdir() if path.is_dir())
    table: Record = {
        "sites": [{"name": path.name, "path": str(path.absolute())} for path in folders],
        "corpus": str((data / "corpus").absolute()),
        "name": "eight-sites",
        "seeds": list(seeds),
        "methods": list(methods),
        "jobs": jobs,
    }
    for pair in pairs:
        dotted, equals, text = pair.partition("=")
        section, dot, key = dotted.partition(".")
        if not equals or section in OWN_OPTION:
            raise ConfigError(
                f"--set: expected KEY=VALUE such as universal.anchor=none, got {pair!r}; sites, "
                "seeds, methods and jobs have options of their own, the rest is fixed"
            )
        place = table.setdefault(section, {}) if dot else table
        if not isinstance(place, dict):
            raise ConfigError(f"--set: {section} is both a setting and a table of settings")
        place[key if dot else section] = _value(text)
    return config_from_dict(table, base=Path.cwd(), source="--set")


def as_chosen(pairs: Sequence[str]) -> list[str]:
    """`CHOSEN` as pairs for `configuration`, and after them `pairs`, which count for more."""
    return [*(f"{key}={value}" for key, value in CHOSEN.items()), *pairs]


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """The options of a comparison called `name` that is run seed by seed."""
    parser.add_argument("data", nargs="?", type=Path, metavar="DATA")
    work = records.ROOT / "runs" / name.replace("_", "-")
    parser.add_argument("--work", type=Path, default=work, help="folder for what is done")
    packs = records.RESULTS / name
    parser.add_argument("--packs", type=Path, default=packs, help="folder for finished seeds")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="settings",
        help="settings in place of those that docs/protocol.md names and the defaults",
    )  # fmt: skip
    parser.add_argument("--smoke", action="store_true", help="made-up images, one step")
    parser.add_argument("--out", type=Path, help=f"default benchmarks/results/{name}.json")


def refuse_others(study: Study) -> None:
    """Refuse (`RunError`) packs of seeds whose test splits were judged with other settings."""
    path = study.packs / TOUCHED
    if not path.exists():
        return
    begun, now = read_json(path), study.settings()
    if begun.get("digest") == digest(now):
        return
    then, wanted = _flat(begun.get("settings", {})), _flat(now)
    changed = [
        f"{key} was {then.get(key)!r}, is {wanted.get(key)!r}"
        for key in sorted(then.keys() | wanted.keys())
        if then.get(key) != wanted.get(key)
    ]
    raise RunError(
        f"{path}: the test splits are judged with other settings since {begun.get('date')} "
        f"({changed[0] if changed else 'its digest differs'}); go on with the same ones, or name "
        "other --packs and --work, and list it among the protocol's changes"
    )


def touch(study: Study) -> Record:
    """Write down that the test splits are judged from now on; returns what is written.

    The first start stays as it is; later ones, of the same settings alone, are added.
    """
    refuse_others(study)
    path = study.packs / TOUCHED
    about = records.circumstances(PACKAGES, seed=study.config.data.split_seed)
    now = {key: about[key] for key in ("date", "commit", "source_changed_since_commit")}
    now["seeds"] = list(study.config.seeds)
    if path.exists():
        begun = read_json(path)
        begun["starts"] = [*begun.get("starts", []), now]
    else:
        settings = study.settings()
        begun = {**now, "digest": digest(settings), "starts": [now], "settings": settings}
    write_json(path, begun)
    return begun


def digest(settings: Record) -> str:
    """SHA-256 of the settings as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def write_json(path: Path, content: Record) -> None:
    """Write JSON, whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing(path) as part:
            part.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise disk_error(error, path) from None


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _flat(settings: Record) -> Record:
    """`table.key` for the keys of tables."""
    found: Record = {}
    for key, value in settings.items():
        inner = value if isinstance(value, dict) else {}
        found |= {f"{key}.{name}": held for name, held in inner.items()} or {key: value}
    return found
