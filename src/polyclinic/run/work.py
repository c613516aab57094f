"""How much a run has to do, so that it can tell how much is left.

One unit is one training pass of one 64 px image; a forward pass counts a quarter. The shares were
compared with seconds measured on one core (tests/run/test_work.py), so that the time left, which
takes all units for equally long, is about right from the beginning.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from polyclinic.config import Config
from polyclinic.data.dataset import SiteData
from polyclinic.federation.stages import Record
from polyclinic.models.pretraining import ObjectiveName
from polyclinic.run.progress import Phase, Progress, Tell
from polyclinic.run.traffic import in_words, traffic

FORWARD = 1 / 4
DENSE_PROBE = 350.0
"""Of fitting a linear probe for segmentation, which sees as many positions at every site."""
WITHOUT_STAGES = ("mim", "contrastive")
"""Methods that are no more than their start."""


class Meter:
    """Adds up finished work and passes it on as `Progress`."""

    def __init__(
        self, total: float, tell: Tell, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.total = max(total, 1.0)
        self.tell = tell
        self._clock = clock
        self._done = 0.0
        self._earlier = 0.0  # done by the run that is resumed
        self._start = clock()

    def skip(self, work: float) -> None:
        """Count work that an earlier run finished."""
        self._earlier += work

    def advance(
        self,
        work: float,
        phase: Phase,
        *,
        method: str = "",
        seed: int | None = None,
        stage: int | None = None,
        stages: int | None = None,
        site: str = "",
        loss: float | None = None,
        message: str = "",
    ) -> None:
        """Count finished work and tell about it; a loss that a site does not tell is NaN."""
        loss = None if loss is None or math.isnan(loss) else loss
        self._done += work
        left = self.total - self._earlier - self._done
        spent = self._clock() - self._start
        share = min(1.0, (self._done + self._earlier) / self.total)
        seconds_left = spent * left / self._done if self._done and left > 0 else None
        self.tell(
            Progress(phase, share, method, seed, stage, stages, site, loss, seconds_left, message)
        )

    def stage_done(self, record: Record, stages: int) -> None:
        """Tell what passed in the stage of `record`, if anything did."""
        up, down = traffic(record)
        if not (up or down):
            return
        method, seed, stage = record["method"], record["seed"], record["stage"]
        share = min(1.0, (self._done + self._earlier) / self.total)
        text = f"{method}, seed {seed}, stage {stage}: {in_words(up, down)}"
        told = Progress("train", share, method, seed, stage, stages, message=text)
        self.tell(replace(told, bytes_up=up, bytes_down=down))


def pretraining(config: Config, corpus: int, objective: ObjectiveName = "mim") -> float:
    """Work of one epoch without labels; contrastive learning sees each image twice."""
    return corpus * _area(config) * (2 if objective == "contrastive" else 1)


def training(config: Config, site: SiteData, *, epochs: int, max_steps: int) -> float:
    """Work of `epochs` at a site."""
    side, size = int(site.images.shape[-1]), config.data.image_size
    images = len(site.split["train"]) * max(1, round((side / size) ** 2 / 2))
    images = max(images, config.local.min_steps * config.local.batch_size)
    if max_steps:
        images = min(images, max_steps * config.local.batch_size)
    return images * epochs * _area(config)


def stage(config: Config, method: str, site: SiteData) -> float:
    """Work of one site's stage."""
    work = training(config, site, epochs=config.local.epochs, max_steps=config.local.max_steps)
    if method == "universal":
        work *= 1 + FORWARD * (config.universal.anchor == "feature")
        if config.universal.head_first:
            steps = config.local.max_steps
            work += _head(config, site, epochs=config.local.dense_head_epochs, max_steps=steps)
    return work + 2 * FORWARD * len(site.split["val"]) * _whole(site)


def distillation(config: Config, sites: int, corpus: int) -> float:
    """Work of one distillation."""
    passes = config.universal.distil_epochs + FORWARD * (sites + 1)
    return corpus * passes * _area(config)


def stages(
    config: Config, method: str, sites: Mapping[str, SiteData], corpus: int, number: int
) -> float:
    """Work of a method's first `number` stages; without any, there is none."""
    if method in WITHOUT_STAGES:
        return 0.0
    total = number * sum(stage(config, method, site) for site in sites.values())
    every = config.universal.distil_every
    if method == "universal" and every:
        total += number // every * distillation(config, len(sites), corpus)
    return total


def judging(config: Config, site: SiteData, protocol: str) -> float:
    """Work of judging one encoder at one site."""
    e = config.evaluation
    whole = FORWARD * len(site) * _whole(site)
    if protocol == "linear-probe":
        if site.task != "segmentation":
            return whole  # fitting logistic regressions to the features is cheap beside them
        # every penalty is tried on the validation images
        return whole + DENSE_PROBE + 2 * FORWARD * len(site.split["val"]) * _whole(site)
    steps = e.fine_tune_max_steps
    work = whole + _head(config, site, epochs=config.local.dense_head_epochs, max_steps=steps)
    return work + training(config, site, epochs=e.fine_tune_epochs, max_steps=steps)


def held_out(config: Config, site: SiteData, probes: int) -> float:
    """Work of `probes` linear probes of one encoder at a site that did not train."""
    return probes * judging(config, site, "linear-probe")


def on_corpus(config: Config, corpus: int) -> float:
    """Work of the common start, and of the methods that learn from the corpus alone; one seed."""
    m = config.mim
    total = pretraining(config, corpus) * m.epochs
    if "mim" in config.methods:
        total += pretraining(config, corpus) * m.baseline_epochs
    if "contrastive" in config.methods:
        total += pretraining(config, corpus, "contrastive") * (m.baseline_epochs or m.epochs)
    return total


def whole_run(config: Config, sites: Mapping[str, SiteData], corpus: int) -> float:
    """Work of a whole run."""
    total = on_corpus(config, corpus)
    for method in config.methods:
        total += stages(config, method, sites, corpus, config.local.stages)
        for protocol in ("linear-probe", "fine-tune"):
            total += sum(judging(config, site, protocol) for site in sites.values())
    return total * len(config.seeds)


def _head(config: Config, site: SiteData, *, epochs: int, max_steps: int) -> float:
    """Work of fitting a head on frozen features."""
    if site.task == "segmentation":
        return FORWARD * 1.5 * training(config, site, epochs=epochs, max_steps=max_steps)
    return FORWARD * len(site.split["train"]) * _area(config)


def _area(config: Config) -> float:
    return math.pow(config.data.image_size / 64, 2)


def _whole(site: SiteData) -> float:
    return math.prod(site.images.shape[2:]) / 64**2
