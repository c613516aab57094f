"""Made-up patients on disk and in memory, and judges that have hardly learned anything."""

from pathlib import Path

import pytest

from polyclinic.data.phantoms import brain
from polyclinic.inpaint import network
from polyclinic.inpaint.cases import find_cases, read_cases
from polyclinic.inpaint.network import NetworkConfig
from polyclinic.inpaint.objectives import OBJECTIVES
from polyclinic.inpaint.painter import Painter
from polyclinic.inpaint.segmenter import SegmentPlan, train_segmenter
from polyclinic.run.painter_evaluation.judges import Judges, TrainingImages, segmenter_encoder

TINY = NetworkConfig((16, 16), (False, False), blocks=1, patch=2, crop=16, head_px=48)
PLAN = SegmentPlan(features=(8,) * 6, steps=1, batch_size=2)


@pytest.fixture
def tiny(monkeypatch):
    """The small painter, made tiny."""
    monkeypatch.setitem(network.SIZES, "small", TINY)
    return TINY


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """Six made-up patients of 48 px."""
    path = tmp_path_factory.mktemp("brains")
    brain.write_cases(path, brain.generate(6, size=48, slices=5))
    for name in ("t1n", "t2w"):
        for file in path.glob(f"*/*-{name}.nii.gz"):
            file.unlink()
    return path


@pytest.fixture(scope="session")
def cases(folder):
    return list(read_cases(find_cases(folder)))


@pytest.fixture
def painter(awake):
    """objective -> an untrained painter of crops of 16 px."""
    return lambda objective="flow": Painter(awake(TINY), OBJECTIVES[objective], digest="d" * 64)


@pytest.fixture
def judges(cases):
    segmenter = train_segmenter(cases[:2], PLAN, 0)
    return Judges(segmenter, segmenter_encoder(segmenter), TrainingImages(cases[:2]))
