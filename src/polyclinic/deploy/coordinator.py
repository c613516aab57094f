"""The server's whole job: pre-train, run every method over the sites, let the sites judge.

Journalled in a run's directory like a run in one process, and resumed like one. federation.json
says how the federation went; results.json is that of a run, with what a server knows.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from polyclinic import __version__
from polyclinic.config import Config
from polyclinic.deploy.agreement import promise
from polyclinic.deploy.remote import RemoteSites
from polyclinic.deploy.results import JUDGED, NOT_JUDGED, collect, last_judged
from polyclinic.errors import PolyclinicError
from polyclinic.evaluate.protocols import PROTOCOLS, protocol_plan
from polyclinic.federation.privacy.accounting import need
from polyclinic.models.device import asked_precision, device, fixed_precision
from polyclinic.models.memory import shortage_explained
from polyclinic.run import work
from polyclinic.run.directory import RunDirectory, open_run
from polyclinic.run.environment import settle
from polyclinic.run.experiment import line, prepared_corpus
from polyclinic.run.privacy import statements
from polyclinic.run.progress import Progress, Tell, silent
from polyclinic.run.traffic import traffic
from polyclinic.run.training import (
    finished_stages,
    kept_encoders,
    own_start,
    pretrained_start,
    train_method,
)
from polyclinic.run.work import Meter

RESULT, RESULTS = "federation.json", "results.json"
SCHEMA = "polyclinic.federation/1"
_OF_A_MESSAGE = ("digest", "bytes_up", "bytes_down")
Record = dict[str, Any]


@shortage_explained()
def coordinate(config: Config, out: Path, sites: RemoteSites, tell: Tell = silent) -> Path:
    """Run `config` over `sites` in the directory `out`, or go on with it; the path of its result.

    Raises `ConfigError`, `DataError`, `RunError`. Killed at any moment and called again, it goes
    on after the last finished stage, and ends with the same encoders.
    """
    device()
    asked_precision()
    if config.privacy.site_epsilon:
        need()
    with open_run(out, config, resume=(out / "config.json").exists()) as directory:

        def told(progress: Progress) -> None:
            directory.log(line(progress))
            tell(progress)

        with fixed_precision(settle(directory, told)):
            corpus, findings = prepared_corpus(config)
            pretraining = work.on_corpus(config, len(corpus))
            steps = config.local.stages * len(sites.names) * len(config.methods)
            share = max(pretraining, 1.0) / max(steps, 1)  # half of the bar each
            total = (pretraining + share * steps) * len(config.seeds)
            meter = Meter(total, told)

            def stage_done(record: Record) -> None:
                meter.stage_done(record, config.local.stages)
                directory.write_json(RESULT, summary(directory, finished=False))

            for seed in config.seeds:
                start = pretrained_start(directory, corpus, seed, meter)
                for method in config.methods:
                    if kept_encoders(directory, method, seed, sites.names) is None:
                        known = _told(directory, meter, share, method, seed)
                        own = own_start(directory, corpus, method, seed, meter) or start
                        train_method(
                            directory,
                            sites,
                            own,
                            corpus,
                            method,
                            seed,
                            known,
                            stage_done=stage_done,
                        )
                    _judge(directory, sites, method, seed)
                    directory.write_json(RESULT, summary(directory, finished=False))
                if seed != config.seeds[-1]:
                    results = collect(directory, len(corpus), findings, finished=False)
                    directory.write_json(RESULTS, results)
            for seed in config.seeds:
                for method in config.methods:  # who was away before may be there now
                    _judge(directory, sites, method, seed)
            # before the other, whose `finished` ends the server
            results = collect(directory, len(corpus), findings, finished=True)
            directory.write_json(RESULTS, results)
            return directory.write_json(RESULT, summary(directory, finished=True))


def summary(directory: RunDirectory[Config], *, finished: bool) -> Record:
    """What came out: of every method who took part in each stage, and what the sites told."""
    config = directory.config
    names = [site.name for site in config.sites]
    records = directory.records.values()
    runs = []
    for seed in config.seeds:
        for method in config.methods:
            about = {"method": method, "seed": seed}
            own = [r for r in records if r.get("method") == method and r.get("seed") == seed]
            encoder = f"seed-{seed}/{method}/encoders/encoder.safetensors"
            runs.append(
                {
                    **about,
                    "encoder": encoder if (directory.path / encoder).exists() else None,
                    "stages": [
                        {
                            "stage": r["stage"],
                            "who": took_part(names, list(r["sites"])),
                            "took_part": list(r["sites"]),
                            "absent": r["absent"],
                            "seconds": r["seconds"],
                            "bytes_up": traffic(r)[0],
                            "bytes_down": traffic(r)[1],
                            "messages": {
                                site: {k: said[k] for k in _OF_A_MESSAGE if k in said}
                                for site, said in r["sites"].items()
                            },
                        }
                        for r in sorted(
                            (r for r in own if r["kind"] == "stage"), key=lambda r: int(r["stage"])
                        )
                    ],
                    "judged": [
                        {key: r.get(key, "") for key in ("site", "scores", "absent", "digest")}
                        for r in last_judged(own)
                    ],
                }
            )
    _, of_sites = statements(directory, names)
    return {
        "schema": SCHEMA,
        "version": __version__,
        "finished": finished,
        "sites": names,
        "stages": config.local.stages,
        "privacy": _claims(config),
        "site_privacy": of_sites,
        "runs": runs,
    }


def _claims(config: Config) -> list[str]:
    """What may be said of privacy here: what sites have spent is known to them alone."""
    privacy, said = config.privacy, []
    if privacy.epsilon:
        trainings = len(config.methods) * len(config.seeds)
        said.append(
            f"at each site, {promise(privacy, trainings)}; each site keeps the account and the "
            "limit itself, and says how much it has spent to nobody"
        )
    if privacy.site_epsilon:
        said.append(
            f"of whole sites, by noise at the server: epsilon at most {privacy.site_epsilon:g} at "
            f"delta {privacy.delta:g} in each training"
        )
    return said


def took_part(names: list[str], present: list[str]) -> str:
    """Who took part, in words.

    >>> took_part(["skin", "blood", "chest"], ["blood", "chest"])
    '2 of 3: skin absent'
    """
    absent = [name for name in names if name not in present]
    counted = f"{len(names) - len(absent)} of {len(names)}"
    return f"{counted}: {', '.join(absent)} absent" if absent else counted


def _told(
    directory: RunDirectory[Config], meter: Meter, share: float, method: str, seed: int
) -> Callable[[str, int, str, float | None], None]:
    config = directory.config
    meter.skip(share * len(config.sites) * finished_stages(directory, method, seed))

    def told(phase: str, stage: int, site: str, loss: float | None) -> None:
        meter.advance(
            0.0 if phase == "distil" else share,
            "distil" if phase == "distil" else "train",
            method=method,
            seed=seed,
            stage=stage,
            stages=config.local.stages,
            site=site,
            loss=loss,
            message=f"{site} is absent from stage {stage}" if phase == "absent" else "",
        )

    return told


def _judge(
    directory: RunDirectory[Config],
    sites: RemoteSites,
    method: str,
    seed: int,
) -> None:
    """Let each site that has not yet done so judge the final encoder.

    What a site does not want to tell is None. One that is away is asked again the next time.
    """
    units = {name: f"seed-{seed}/{method}/judged-at/{name}" for name in sites.names}
    todo = [name for name in sites.names if units[name] not in directory.records]
    encoders = kept_encoders(directory, method, seed, sites.names) if todo else None
    if encoders is None:
        return
    encoder = encoders[todo[0]]
    plans = dict.fromkeys(map(str, PROTOCOLS), protocol_plan(directory.config))
    for name, found in sites.evaluate(encoder, todo, method, seed, plans):
        about = {"method": method, "seed": seed, "site": name}
        if isinstance(found, PolyclinicError):
            before = sum(unit.startswith(f"{units[name]}/") for unit in directory.records)
            unit = f"{units[name]}/away-{before + 1}"
            why = {"scores": {}, "absent": str(found)}
            directory.record({"unit": unit, "kind": NOT_JUDGED, **about, **why})
        else:
            scores = {k: v if v == v else None for k, v in found.items()}
            record = {"unit": units[name], "kind": JUDGED, **about, "scores": scores}
            directory.record({**record, "absent": None, "digest": sites.scored.get(name, "")})
