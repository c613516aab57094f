"""Trials of methods and settings on validation splits: what the settings of the protocol rest on.

    python benchmarks/tuning.py DATA trials.txt      # some minutes of a core for a trial
    python benchmarks/tuning.py --smoke              # a minute, made-up images

DATA holds `sites/` and `corpus/`. Each line of trials.txt is
`NAME METHOD [seed=0] [hold-out=SITE,...] [KEY=VALUE ...]` with the configuration's keys, such as
`universal.server_learning_rate=2.5`; lines that begin with # are remarks. A trial trains a
federation, at a small scale (`SCALE`) or with `--full` at the defaults', and judges its encoders at
every site by linear probe, on the validation split. Sites that are held out do not train; they are
judged with ten labels of each class, the mean over DRAWS draws. The test split is taken away before
anything begins: its place is taken by the validation split.

Every trial is one line of the result file, in the order of their ends, failed ones too, so that how
much was tuned can be seen. A trial that is there is not done again; another of its name is refused.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import records
from polyclinic.config import Config, MethodName, SiteConfig
from polyclinic.data.dataset import SiteData
from polyclinic.data.phantoms import write_phantoms
from polyclinic.errors import ConfigError, PolyclinicError, RunError
from polyclinic.evaluate.frozen import few_labels
from polyclinic.evaluate.metrics import primary_metric
from polyclinic.evaluate.predictions import score as score_of
from polyclinic.evaluate.protocols import linear_probe, protocol_plan
from polyclinic.federation.exchange import Federation
from polyclinic.federation.ledger import digest
from polyclinic.federation.methods import METHODS, STARTS, Encoders
from polyclinic.federation.stages import StageStore
from polyclinic.federation.workers import Workers
from polyclinic.models.contrastive import CONTRASTIVE
from polyclinic.models.encoder import build_encoder
from polyclinic.models.masked import MASKED
from polyclinic.models.pretraining import encoder_of, pretrain, pretrain_plan
from polyclinic.models.state import State, load_state, save_state, state_of
from polyclinic.run.experiment import Prepared, prepare
from polyclinic.seeding import derive

SCALE: dict[str, Any] = {
    "data.image_size": 32,
    "data.max_train_images": 800,
    "local.stages": 8,
    "local.min_steps": 20,
    "local.max_steps": 20,
}
"""160 steps at each site, as with the defaults, on images of 32 px."""
LABELS, DRAWS = 10, 10
"""Of each class, and how often they are drawn, at a site that is held out."""
OBJECTIVES = {"mim": MASKED, "contrastive": CONTRASTIVE}


@dataclass(frozen=True)
class Trial:
    """One line of the file of trials."""

    name: str
    method: str
    seed: int
    settings: Mapping[str, str]
    hold_out: tuple[str, ...] = ()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="?", type=Path, metavar="DATA")
    parser.add_argument("trials", nargs="?", type=Path, metavar="trials.txt")
    parser.add_argument("--smoke", action="store_true", help="two trials on made-up images")
    parser.add_argument("--full", action="store_true", help="the defaults' image size and steps")
    parser.add_argument("--starts", type=Path, default=Path("runs/tuning"), help="kept here")
    parser.add_argument(
        "--out", type=Path, help="result file (default benchmarks/results/tuning.jsonl; with "
        "--smoke none)"
    )  # fmt: skip
    arguments = parser.parse_args()
    if arguments.trials is None and not arguments.smoke:
        parser.error("DATA and trials.txt are required (or --smoke)")
    try:
        if arguments.smoke:
            _smoke()
            return
        out = arguments.out or records.RESULTS / "tuning.jsonl"
        lines = arguments.trials.read_text(encoding="utf-8").splitlines()
        scale = {} if arguments.full else SCALE
        run(arguments.data, trials(lines), scale, arguments.starts, out)
    except (PolyclinicError, OSError) as error:
        sys.exit(f"tuning: {error}")


def _smoke() -> None:
    lines = [
        "start mim",
        "ours universal universal.distil_every=1",
        "elsewhere universal hold-out=blood,chest",
    ]
    scale = SCALE | {"local.stages": 1, "mim.epochs": 1, "data.max_train_images": 24}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_phantoms(folder, images_per_site=160, corpus_images=24)
        run(folder, trials(lines), scale, folder / "starts", None)


def trials(lines: Sequence[str]) -> list[Trial]:
    """The trials in the lines of a file; `ConfigError` for a method or key that there is not."""
    found = []
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        name, method, *pairs = line.split()
        settings = dict(pair.split("=", 1) for pair in pairs)
        if fixed := [key for key in settings if key.startswith("data.")]:
            raise ConfigError(f"{name}: {fixed[0]}: data are prepared once, for all trials alike")
        if method not in get_args(MethodName):
            raise ConfigError(f"{name}: expected one of {', '.join(METHODS)}; got {method!r}")
        seed = int(settings.pop("seed", "0"))
        without = tuple(settings.pop("hold-out", "").split(",")) if "hold-out" in settings else ()
        changed(Config((), Path()), settings)
        found.append(Trial(name, method, seed, settings, without))
    return found


def run(
    data: Path, todo: Sequence[Trial], scale: Mapping[str, Any], starts: Path, out: Path | None
) -> None:
    """Do the trials that `out` does not hold; `RunError` where it holds others of the same name."""
    done = {row["name"]: row for row in records.whole_rows(out)} if out else {}
    todo = [trial for trial in todo if not is_done(trial, scale, done)]
    sites = [SiteConfig(path.name, path) for path in sorted((data / "sites").iterdir())]
    base = changed(Config(tuple(sites), data / "corpus"), scale)
    blind = without_test(prepare(base))
    for trial in todo:
        row = asked(trial, scale)
        began = time.process_time()
        try:
            row |= score(changed(base, trial.settings), trial, blind, starts)
        except PolyclinicError as error:
            row["failed"] = str(error)
        row |= {"processor_seconds": round(time.process_time() - began), **about()}
        shown = (row.get(key) for key in ("mean", "linear-probe", "ten-labels"))
        print(trial.name, *shown, row.get("failed", ""), flush=True)
        if out is not None:
            with out.open("a", encoding="utf-8") as handle:
                handle.write(json.dumps(row) + "\n")


def asked(trial: Trial, scale: Mapping[str, Any]) -> dict[str, Any]:
    """What the row of a trial says of the trial itself."""
    return {
        "name": trial.name,
        "method": trial.method,
        "seed": trial.seed,
        "settings": {**scale, **trial.settings},
        "held_out": list(trial.hold_out),
    }


def is_done(trial: Trial, scale: Mapping[str, Any], done: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the rows `done`, by name, hold the trial; `RunError` if another has its name."""
    if trial.name not in done:
        return False
    was, now = done[trial.name], asked(trial, scale)
    if other := [key for key, value in now.items() if was.get(key) != value]:
        key = other[0]
        raise RunError(
            f"{trial.name}: was done with {key} = {was.get(key)}, now asked for with {now[key]}; "
            "give it another name, or write to another file"
        )
    return True


def score(config: Config, trial: Trial, data: Prepared, starts: Path) -> dict[str, Any]:
    """Train, and the primary metric of every site's validation split, by linear probe.

    With ten labels a class instead, where the site was held out.
    """
    if unknown := set(trial.hold_out) - set(data.sites):
        raise ConfigError(f"{trial.name}: no site called {', '.join(sorted(unknown))}")
    sites = {name: site for name, site in data.sites.items() if name not in trial.hold_out}
    start = start_of(config, trial.method, trial.seed, data, starts)
    with tempfile.TemporaryDirectory() as folder:
        workers, kept = Workers(sites), Path(folder)
        encoders = trained(config, trial.method, trial.seed, data, workers, start, kept)
    plan = protocol_plan(config)
    found = {
        name: linear_probe(config.preset, encoders[name], site, plan, trial.seed, "tuning", name)
        for name, site in sites.items()
    }
    scores = {name: round(outcome.validation, 4) for name, outcome in found.items()}
    row: dict[str, Any] = {
        "linear-probe": scores,
        "mean": round(sum(scores.values()) / len(scores), 4),
    }
    if trial.hold_out:
        shared = next(iter(encoders.values()))  # without training at a site, all have the same
        row["ten-labels"] = {
            name: round(few(config, shared, data.sites[name]), 4) for name in trial.hold_out
        }
    return row


def trained(
    config: Config,
    method: str,
    seed: int,
    data: Prepared,
    workers: Workers,
    start: State,
    folder: Path,
    log: Callable[[dict[str, Any]], None] = lambda _: None,
) -> Encoders:
    """The encoder that each site ends up with; goes on after the last stage in `folder`.

    `log` is told the record of every stage.
    """
    federation = Federation(
        method=method,
        seed=seed,
        start=start,
        corpus=data.corpus,
        config=config,
        workers=workers,
        store=StageStore(folder, log),
        tell=lambda *_: None,
    )
    return METHODS[method](federation)


def few(config: Config, encoder: State, site: SiteData) -> float:
    """The primary metric with ten labels a class, the mean over draws of them."""
    plan, metric = protocol_plan(config), primary_metric(site.task)
    found = [
        score_of(few_labels(config.preset, encoder, site, plan, LABELS, n).predictions, metric)
        for n in range(DRAWS)
    ]
    return sum(found) / len(found)


def start_of(config: Config, method: str, seed: int, data: Prepared, starts: Path) -> State:
    """The encoder that a method starts from, pre-trained once for all with its settings."""
    kind = STARTS.get(method, "mim")
    if kind == "random":
        return state_of(build_encoder(config.preset, derive(seed, method)))
    m, size = config.mim, config.data.image_size
    said = [m.epochs, m.batch_size, m.learning_rate, m.weight_decay, m.mask_ratio, m.patch, size]
    corpus = digest(data.corpus.tobytes())[:12]
    words = [kind, str(seed), *(f"{value:g}" for value in said), config.preset, corpus]
    kept = starts / f"{'-'.join(words)}.safetensors"
    if not kept.exists():
        plan = pretrain_plan(m)
        *_, last = pretrain(OBJECTIVES[kind], config.preset, data.corpus, plan, seed)
        save_state(encoder_of(last[2]), kept)
    return load_state(kept)


def without_test(data: Prepared) -> Prepared:
    """The same, with each site's validation split where its test split was."""
    return replace(data, sites={name: blind(site) for name, site in data.sites.items()})


def blind(site: SiteData) -> SiteData:
    """A site with its validation split where its test split was."""
    return replace(site, split={**site.split, "test": site.split["val"]})


def changed(config: Config, settings: Mapping[str, Any]) -> Config:
    """The configuration with `table.key` set to each value, given as text or as it is."""
    for dotted, value in settings.items():
        table, _, key = dotted.partition(".")
        old = getattr(getattr(config, table, None), key, None)
        if old is None:
            raise ConfigError(f"{dotted}: no such setting; expected one as docs/method.md has them")
        new = value == "true" if isinstance(old, bool) else type(old)(value)
        config = replace(config, **{table: replace(getattr(config, table), **{key: new})})
    return config


def about() -> dict[str, Any]:
    """Machine, versions and commit in a line."""
    said = records.circumstances(["polyclinic", "torch"], seed=0)
    return {key: said[key] for key in ("date", "commit", "machine", "versions")}


if __name__ == "__main__":
    main()
