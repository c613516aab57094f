"""What is asked of sites is what the methods ask for, and nothing of it comes from the server."""

import pytest

from polyclinic.federation import methods
from polyclinic.federation.plans import plan_of, stage_plan, weighting_of
from polyclinic.models.pretraining import pretrain_plan


@pytest.mark.parametrize("method", ["universal", "fedavg", "fedprox", "fedbn", "fedmim"])
def test_methods_ask_for_the_plan_of_each_stage(federate, monkeypatch, method):
    fed, _ = federate(method, stages=3)
    asked, weightings, real = [], [], methods._combined

    def noted(fed, stages, plan, combine, weighting):
        asked.append(plan)
        weightings.append(weighting)
        return real(fed, stages, plan, combine, weighting)

    monkeypatch.setattr(methods, "_combined", noted)
    methods.METHODS[method](fed)
    assert asked == [plan_of(fed.config, method, done) for done in range(3)]
    assert set(weightings) == {weighting_of(fed.config, method)}
    assert {plan.stages for plan in asked} == {3}


def test_each_method_has_its_own_part_and_the_rest_is_plain_training(federate):
    fed, _ = federate("universal")
    config = fed.config
    own = {
        "fedavg": {},
        "fedprox": {"anchor": "proximal", "anchor_weight": config.fedprox.mu},
        "fedbn": {"own_norms": True},
        "fedmim": {"masking": pretrain_plan(config.mim)},
    }
    plain = vars(stage_plan(config, 1)) | {"stages": config.local.stages, "privacy": config.privacy}
    for method, part in own.items():
        assert vars(plan_of(config, method, 1)) == plain | part
