"""A site audits itself: attacks on the updates that its own training makes, under a run's settings.

Only a party that has the images can do this: each attack is judged against the truth. Nothing of
it leaves the machine but what is written to audit.json: numbers, and no image.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from polyclinic import __version__
from polyclinic.config import Config, SiteConfig
from polyclinic.data.dataset import SiteData, counted
from polyclinic.data.readers import TaskChoice
from polyclinic.errors import ConfigError, DataError, RunError
from polyclinic.federation.audit.stages import plan_of, weighting_of
from polyclinic.federation.privacy.accounting import need
from polyclinic.federation.privacy.stage import require_guarantee
from polyclinic.federation.privacy.units import units_of
from polyclinic.federation.secure import primitives
from polyclinic.models.device import describe, fixed_precision
from polyclinic.models.memory import shortage_explained
from polyclinic.models.training import TrainPlan
from polyclinic.run.auditing.canary_rows import canary_rows
from polyclinic.run.auditing.inversion_rows import inversion_rows
from polyclinic.run.auditing.label_rows import label_rows
from polyclinic.run.auditing.membership_rows import membership_rows
from polyclinic.run.auditing.rows import Attack, AuditPlan, Subject
from polyclinic.run.directory import Record
from polyclinic.run.encoder_source import TrainedEncoder
from polyclinic.run.experiment import prepared_site
from polyclinic.run.progress import Progress, Tell, silent

SCHEMA = "polyclinic.audit/1"
FILE = "audit.json"
AttackName = Literal["canary", "inversion", "membership", "labels"]
ATTACKS: tuple[AttackName, ...] = get_args(AttackName)
"""In the order in which they run."""
ROWS: dict[AttackName, Attack] = {
    "canary": canary_rows,
    "inversion": inversion_rows,
    "membership": membership_rows,
    "labels": label_rows,
}
METHODS = ("universal", "fedavg", "fedprox")
"""Methods whose sites train with labels and send what they trained."""
FEWEST = 10
"""Training images that an audit needs."""


def quick_plan(plan: AuditPlan) -> AuditPlan:
    """Fewer repetitions of everything: whether it works, in a minute or two."""
    return replace(
        plan,
        quick=True,
        victims=min(plan.victims, 1),
        inversion_steps=min(plan.inversion_steps, 100),
        inversion_batch=min(plan.inversion_batch, 4),
        canaries=min(plan.canaries, 4000),
        stage_canaries=min(plan.stage_canaries, 16),
        models=min(plan.models, 4),
        pool=min(plan.pool, 64),
        label_victims=min(plan.label_victims, 8),
        simulated=min(plan.simulated, 16),
        resamples=min(plan.resamples, 200),
    )


@dataclass(frozen=True)
class Source:
    """The run that is audited."""

    found: TrainedEncoder
    config: Config
    method: str


@shortage_explained()
def audit_run(
    found: TrainedEncoder,
    folders: Sequence[Path],
    plan: AuditPlan,
    attacks: Sequence[AttackName] = ATTACKS,
    tell: Tell = silent,
    *,
    format: str = "auto",
    task: TaskChoice = "auto",
    train: TrainPlan | None = None,
) -> Record:
    """Attack the updates of the sites in `folders`, or of the run's first site: ready for JSON.

    `format` and `task` as in `scan_site`, for folders that are not in the run's configuration.
    `train` is how sites trained, by default as the configuration asks.
    Raises `RunError` for what is no run, `ConfigError` for an attack that is unknown or an extra
    that is missing, `DataError` where there is too little to audit, `PrivacyError` for a site at
    which the run could not give its guarantee.
    """
    source = _source(found)
    if not attacks:
        raise ConfigError(f"--attacks: expected one or more of {', '.join(ATTACKS)}, got none")
    for name in attacks:
        if name not in ATTACKS:
            raise ConfigError(f"--attacks: expected some of {', '.join(ATTACKS)}, got {name!r}")
    if source.config.privacy.epsilon:
        need()
    if source.config.federation.secure:
        primitives.need()
    sites = [_prepared(site, source, tell) for site in _sites(source, folders, format, task, tell)]
    train = train or plan_of(source.config, source.method)
    if train.privacy.epsilon:
        for site in sites:
            require_guarantee(site, units_of(site, train.privacy.unit), train)
    rows: list[Record] = []
    with fixed_precision(torch.float32):
        for number, site in enumerate(sites):
            subject = Subject(
                site,
                found.preset,
                found.state,
                source.config,
                train,
                weighting_of(source.config, source.method),
            )
            for place, attack in enumerate(attacks):
                done = (number * len(attacks) + place) / (len(sites) * len(attacks))
                share = 1 / (len(sites) * len(attacks))
                rows += _told(attack, subject, plan, tell, done, share)
    return _results(source, sites, rows, plan, attacks)


def missed(rows: Sequence[Record]) -> list[str]:
    """The attacks that failed where they must succeed: what they say of the run shows nothing."""
    fallen = ("succeeds", "caught")
    return [
        f"{row['attack']} ({row['setting']})"
        for row in rows
        if row["kind"] == "made to leak" and row["verdict"] not in fallen
    ]


def _told(
    attack: AttackName, subject: Subject, plan: AuditPlan, tell: Tell, done: float, share: float
) -> Iterator[Record]:
    """The rows of an attack, with progress before each setting."""

    def told(setting: str, part: float) -> None:
        tell(
            Progress(
                "audit", done + share * part, method=f"{attack}, {setting}", site=subject.site.name
            )
        )

    for row in ROWS[attack](subject, plan, told):
        yield {"site": subject.site.name, "attack": attack, **row}


def _source(found: TrainedEncoder) -> Source:
    if found.run is None or found.config is None:
        raise RunError(
            "audit: an exported folder has no settings of a federation; expected a run directory "
            "of `polyclinic run`"
        )
    method = str(found.origin["method"])
    if method not in METHODS:
        raise ConfigError(
            f"audit: {method!r} sends no update of training with labels; expected one of "
            f"{', '.join(METHODS)}, by --method"
        )
    return Source(found, found.config, method)


def _sites(
    source: Source, folders: Sequence[Path], format: str, task: TaskChoice, tell: Tell
) -> list[SiteConfig]:
    """The sites in `folders`, as the run's configuration has them; or its first that trained."""
    config = source.config
    if not folders:
        site = next(s for s in config.sites if s.name not in config.hold_out)
        if not site.path.is_dir():
            raise DataError(
                f"{site.path}: the folder of site '{site.name}' in the run's configuration is not "
                "there; name the site's own data with --data PATH"
            )
        tell(
            Progress(
                "prepare",
                0.0,
                site=site.name,
                message=f"audits site '{site.name}' of the run; --data PATH chooses another",
            )
        )
        return [site]
    known = {site.path.resolve(): site for site in config.sites}
    asked = format != "auto" or task != "auto"
    return [
        known[folder.resolve()]
        if folder.resolve() in known and not asked
        else SiteConfig(folder.resolve().name, folder, format, task)
        for folder in folders
    ]


def _prepared(site: SiteConfig, source: Source, tell: Tell) -> SiteData:
    tell(Progress("prepare", 0.0, site=site.name))
    data = prepared_site(site, source.config.data)
    train = len(data.split["train"])
    others = len(data.split["val"]) + len(data.split["test"])
    if train < FEWEST or others < FEWEST // 2:
        raise DataError(
            f"{site.path}: {counted(train, 'training image')} and {others} others; expected at "
            f"least {FEWEST} and {FEWEST // 2}, to tell those that were trained on from others"
        )
    return data


def _results(
    source: Source,
    sites: Sequence[SiteData],
    rows: list[Record],
    plan: AuditPlan,
    attacks: Sequence[AttackName],
) -> Record:
    privacy = source.config.privacy
    return {
        "schema": SCHEMA,
        "version": __version__,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "quick": plan.quick,
        "run": {
            "name": source.config.name,
            "method": source.method,
            "seed": source.found.origin["seed"],
        },
        "protection": {
            "epsilon": privacy.epsilon or None,
            "site_epsilon": privacy.site_epsilon or None,
            "secure": source.config.federation.secure,
        },
        "attacks": list(attacks),
        "sites": [
            {"name": s.name, "task": s.task, "training_images": len(s.split["train"])}
            for s in sites
        ],
        "rows": rows,
        "missed": missed(rows),
        "plan": plan_json(plan),
        "environment": describe(),
    }


def plan_json(plan: AuditPlan) -> dict[str, Any]:
    """The plan of an audit as plain numbers."""
    return {name: getattr(plan, name) for name in AuditPlan.__dataclass_fields__}
