"""What every audit of an update begins with: a tiny site, an encoder, a plan."""

import pytest

from polyclinic.models.training import TrainPlan


@pytest.fixture(scope="session")
def plan():
    return TrainPlan(
        size=16, epochs=1, min_steps=1, max_steps=2, batch_size=4, learning_rate=1e-3,
        weight_decay=0.05,
    )  # fmt: skip
