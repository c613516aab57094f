"""A federation of tiny sites, with whatever the test wants changed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from polyclinic.config import (
    Config,
    DataConfig,
    LocalConfig,
    MimConfig,
    SiteConfig,
    UniversalConfig,
)
from polyclinic.federation.exchange import Federation
from polyclinic.federation.stages import StageStore
from polyclinic.federation.workers import Workers
from polyclinic.models.encoder import build_encoder
from polyclinic.models.state import state_of


@pytest.fixture(scope="session")
def start():
    """The encoder that everybody begins with."""
    return state_of(build_encoder("small", seed=0))


@pytest.fixture(scope="session")
def corpus():
    """Public images, uint8 (N, 3, S, S): smooth random blots."""
    coarse = np.random.default_rng(5).integers(0, 256, (12, 3, 4, 4), np.uint8)
    return coarse.repeat(4, axis=2).repeat(4, axis=3)


@pytest.fixture
def federate(exact, make_site, start, corpus, tmp_path):
    """(method, sites, stages, tell, **universal) -> (Federation, its records)."""

    def build(method, sites=None, *, stages=1, tell=None, **universal):
        if sites is None:
            sites = [make_site("single-label", "a", n=24), make_site("regression", "b", n=32)]
        config = Config(
            sites=tuple(SiteConfig(s.name, Path(s.name)) for s in sites),
            corpus=Path("corpus"),
            data=DataConfig(image_size=16),
            mim=MimConfig(batch_size=6),
            local=LocalConfig(
                stages=stages, min_steps=1, max_steps=2, batch_size=8, dense_head_epochs=1
            ),
            universal=replace(UniversalConfig(distil_every=1, distil_epochs=1), **universal),
        )
        records = []
        fed = Federation(
            method=method,
            seed=3,
            start=start,
            corpus=corpus,
            config=config,
            workers=Workers({s.name: s for s in sites}),
            store=StageStore(tmp_path / method, records.append),
            tell=tell or (lambda *_: None),
        )
        return fed, records

    return build
