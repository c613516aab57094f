"""How long the comparison on eight sites takes, said before anything of it is done."""

import time
from collections.abc import Mapping
from dataclasses import replace

from eight_sites_cells import waiting
from eight_sites_study import LEAD, SINGLE, Record, Study
from polyclinic.config import Config
from polyclinic.data.dataset import SiteData
from polyclinic.evaluate.protocols import fine_tune, protocol_plan
from polyclinic.models.encoder import build_encoder
from polyclinic.models.state import state_of
from polyclinic.run import work
from polyclinic.run.directory import read_json
from polyclinic.run.experiment import Prepared
from tuning import blind


def estimate(study: Study, data: Prepared) -> Record:
    """Hours that are left, from a few steps of fine-tuning at each site, timed now.

    No test split is looked at. A seed's run counts in full until it has finished.
    """
    pace = _seconds_a_unit(study.config, data.sites)
    waits = [study.of(s) for s in study.config.seeds if not study.pack(s).exists()]
    hours = {
        "run_hours": sum(_run(one, data) for one in waits) * pace / 3600,
        "judging_hours": sum(_judging(one, data) for one in waits) * pace / 3600,
    }
    shown = {name: round(value, 2) for name, value in hours.items()}
    return shown | {"hours": round(sum(hours.values()), 2), "note": "one site at a time"}


def _run(study: Study, data: Prepared) -> float:
    """Units of work that the run of one seed has left."""
    results = study.run / "results.json"
    finished = results.exists() and read_json(results).get("finished")
    return 0.0 if finished else work.whole_run(study.config, data.sites, len(data.corpus))


def _judging(study: Study, data: Prepared) -> float:
    """Units of work that judging one seed takes, besides what the run judges itself."""
    config = study.config
    (seed,) = config.seeds
    probes = {name: _units(config, site, "linear-probe") for name, site in data.sites.items()}
    rest = sum(
        _units(config, data.sites[site], protocol)
        for _, _, protocol, site in waiting(study, data.sites)
    )
    if SINGLE in study.methods:
        chosen = [name for name in probes if not study.choice(seed, name).exists()]
        rest += sum((len(probes) - 1) * probes[name] for name in chosen)
    if {LEAD, "fedavg"} <= set(config.methods):
        stages = range(1, config.local.stages)
        scored = [number for number in stages if study.stage_scores(seed, number).exists()]
        rest += (len(stages) - len(scored)) * sum(probes.values())
    return rest


def _units(config: Config, site: SiteData, protocol: str) -> float:
    return work.judging(config, site, "fine-tune" if protocol == "fine-tune" else "linear-probe")


def _seconds_a_unit(config: Config, sites: Mapping[str, SiteData]) -> float:
    """Seconds that a unit of `polyclinic.run.work` takes here."""
    few = replace(
        config,
        local=replace(config.local, min_steps=1),
        evaluation=replace(config.evaluation, fine_tune_epochs=1, fine_tune_max_steps=4),
    )
    state, plan = state_of(build_encoder(config.preset, 0)), protocol_plan(few)
    began = time.perf_counter()
    for site in sites.values():
        fine_tune(config.preset, state, blind(site), plan, 0, "estimate", site.name)
    units = sum(work.judging(few, site, "fine-tune") for site in sites.values())
    return (time.perf_counter() - began) / units
