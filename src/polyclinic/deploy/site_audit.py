"""A site audits itself after a federation across machines, from what lies in its own folder.

Attacked is the training that the site has agreed to, as it wrote that down itself. The server plays
no part.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from polyclinic.config import Config, MethodName, SiteConfig
from polyclinic.data.readers import TaskChoice
from polyclinic.deploy.folders import Record, read_record
from polyclinic.deploy.site_work import Site, load_site
from polyclinic.errors import RunError
from polyclinic.models.exporting import WEIGHTS
from polyclinic.models.state import load_state
from polyclinic.run.auditing.audit import ATTACKS, AttackName, audit_run
from polyclinic.run.auditing.rows import AuditPlan
from polyclinic.run.encoder_source import TrainedEncoder
from polyclinic.run.progress import Tell, silent
from polyclinic.run.roles import lead_method


def audit_site(
    folder: Path,
    folders: Sequence[Path],
    plan: AuditPlan,
    attacks: Sequence[AttackName] = ATTACKS,
    tell: Tell = silent,
    *,
    method: str | None = None,
    format: str = "auto",
    task: TaskChoice = "auto",
) -> Record:
    """Attack the updates of the site that joined from `folder`, on its own data: see `audit_run`.

    `folders` has others than its own data; `method` is by default the leading one, and the seed
    the first. Raises `RunError` where the site has not judged a final encoder yet.
    """
    site = load_site(folder)
    agreement = site.agreement
    chosen = method or lead_method(agreement.methods) or agreement.methods[0]
    seed = agreement.seeds[0]
    kept = folder / "results" / f"seed-{seed}" / chosen
    if not (kept / WEIGHTS).is_file():
        raise RunError(
            f"{kept}: no encoder of method {chosen!r} with seed {seed} there; it comes when all "
            "stages are over: run `polyclinic audit` then, or choose another of "
            f"{', '.join(agreement.methods)} with --method"
        )
    config = _agreed(site, str(read_record(folder / "site.json")["federation"]))
    found = TrainedEncoder(
        load_state(kept / WEIGHTS),
        agreement.preset,
        agreement.data.image_size,
        agreement.data.largest_side,
        {"run": config.name, "method": chosen, "seed": seed},
        folder,
        config,
    )
    own = folders or [site.data]
    return audit_run(found, own, plan, attacks, tell, format=format, task=task)


def _agreed(site: Site, name: str) -> Config:
    """What the site agreed to, as a configuration."""
    agreement = site.agreement
    own = SiteConfig(site.name, site.data, site.format, site.task)
    sites = (SiteConfig(other, Path("elsewhere", other)) for other in agreement.sites)
    return Config(
        sites=tuple(own if other.name == site.name else other for other in sites),
        corpus=Path("elsewhere"),
        name=name,
        seeds=agreement.seeds,
        methods=cast(tuple[MethodName, ...], agreement.methods),
        preset=agreement.preset,
        data=agreement.data,
        mim=agreement.mim,
        local=agreement.local,
        federation=agreement.federation,
        privacy=agreement.privacy,
        universal=agreement.universal,
        fedprox=agreement.fedprox,
        evaluation=agreement.evaluation,
    )
