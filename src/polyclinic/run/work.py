"""How much a run has to do, so that it can tell how much is left.

One unit is one training pass of one 64 px image; a forward pass counts a third.
"""

import math
import time
from collections.abc import Mapping

from polyclinic.config import Config
from polyclinic.data.dataset import SiteData
from polyclinic.run.progress import Phase, Progress, Tell

FORWARD = 1 / 3


class Meter:
    """Adds up finished work and passes it on as `Progress`."""

    def __init__(self, total: float, tell: Tell) -> None:
        self.total = max(total, 1.0)
        self.tell = tell
        self._done = 0.0
        self._earlier = 0.0  # done by the run that is resumed
        self._start = time.monotonic()

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
        """Count finished work and tell about it."""
        self._done += work
        left = self.total - self._earlier - self._done
        spent = time.monotonic() - self._start
        share = min(1.0, (self._done + self._earlier) / self.total)
        seconds_left = spent * left / self._done if self._done and left > 0 else None
        self.tell(
            Progress(phase, share, method, seed, stage, stages, site, loss, seconds_left, message)
        )


def pretraining(config: Config, corpus: int) -> float:
    """Work of one epoch of masked image modelling."""
    return corpus * _area(config)


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
        work += FORWARD * len(site.split["train"]) * _area(config)
    return work + 2 * FORWARD * len(site.split["val"]) * _whole(site)


def distillation(config: Config, sites: int, corpus: int) -> float:
    """Work of one distillation."""
    passes = config.universal.distil_epochs + FORWARD * (sites + 1)
    return corpus * passes * _area(config)


def judging(config: Config, site: SiteData, protocol: str) -> float:
    """Work of judging one encoder at one site."""
    e = config.evaluation
    whole = FORWARD * len(site) * _whole(site)
    if protocol == "linear-probe":
        if site.task != "segmentation":
            return 2 * whole  # features, and fitting logistic regressions to them
        return whole + FORWARD * 1.5 * training(
            config, site, epochs=e.probe_epochs, max_steps=e.fine_tune_max_steps
        )
    return whole + training(
        config, site, epochs=e.fine_tune_epochs, max_steps=e.fine_tune_max_steps
    )


def whole_run(config: Config, sites: Mapping[str, SiteData], corpus: int) -> float:
    """Work of a whole run."""
    stages = config.local.stages
    total = pretraining(config, corpus) * config.mim.epochs
    for method in config.methods:
        if method != "mim":
            total += stages * sum(stage(config, method, site) for site in sites.values())
        if method == "universal" and config.universal.distil_every:
            times = stages // config.universal.distil_every
            total += times * distillation(config, len(sites), corpus)
        for protocol in ("linear-probe", "fine-tune"):
            total += sum(judging(config, site, protocol) for site in sites.values())
    return total * len(config.seeds)


def _area(config: Config) -> float:
    return math.pow(config.data.image_size / 64, 2)


def _whole(site: SiteData) -> float:
    return math.prod(site.images.shape[2:]) / 64**2
