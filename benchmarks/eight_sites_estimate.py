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

    No test split is looked at. The run counts in full until it has finished.
    """
    config = study.config
    pace = _seconds_a_unit(config, data.sites)
    results = study.run / "results.json"
    finished = results.exists() and read_json(results).get("finished")
    run = 0.0 if finished else work.whole_run(config, data.sites, len(data.corpus))
    probes = {name: _units(config, site, "linear-probe") for name, site in data.sites.items()}
    rest = sum(
        _units(config, data.sites[site], protocol)
        for _, _, protocol, site in waiting(study, data.sites)
    )
    if SINGLE in study.methods:
        rest += sum(
            (len(probes) - 1) * probes[name]
            for seed in config.seeds
            for name in probes
            if not study.choice(seed, name).exists()
        )
    if {LEAD, "fedavg"} <= set(config.methods):
        rest += sum(
            sum(probes.values())
            for seed in config.seeds
            for number in range(1, config.local.stages)
            if not study.stage_scores(seed, number).exists()
        )
    hours = {"run_hours": run * pace / 3600, "judging_hours": rest * pace / 3600}
    shown = {name: round(value, 2) for name, value in hours.items()}
    return shown | {"hours": round(sum(hours.values()), 2), "note": "one site at a time"}


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
