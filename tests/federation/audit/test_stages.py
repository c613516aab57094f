"""A stage of an audit is a stage of the federation: the same plan, and the same bits."""

from dataclasses import replace

import pytest
import torch

from polyclinic.config import PrivacyConfig
from polyclinic.errors import PrivacyError
from polyclinic.federation.audit.stages import stage_of
from polyclinic.federation.site import train_stage

pytestmark = pytest.mark.usefixtures("exact")


def test_without_a_budget_it_is_the_sites_own_stage(make_site, start, plan):
    site = make_site()
    found = stage_of(site, "small", start, plan, 0, "x")
    expected = train_stage(site, "small", start, None, plan, 0, "x")
    for name, value in expected.knowledge.tensors.items():
        assert torch.equal(found.change[name], value)
    assert found.noise == 0
    assert found.epsilon == float("inf")
    assert found.views.shape == (2 * plan.batch_size, 1, 16, 16)


def test_under_a_budget_it_spends_no_more_and_keeps_the_views(make_site, start, plan):
    site = make_site()
    private = replace(plan, privacy=PrivacyConfig(epsilon=50.0, noise=1.0))
    found = stage_of(site, "small", start, private, 0)
    assert found.noise == 1
    assert 0 < found.epsilon <= 50
    assert found.views.shape[1:] == (1, 16, 16)
    assert len(found.views) <= 2 * len(site.split["train"])


def test_a_stage_in_which_nothing_is_drawn_is_refused(make_site, start, plan, monkeypatch):
    from polyclinic.federation.audit import stages

    monkeypatch.setattr(stages, "train_privately", lambda *_: None)
    private = replace(plan, privacy=PrivacyConfig(epsilon=50.0, noise=1.0))
    with pytest.raises(PrivacyError, match=r"site 'a': no image was drawn in the stage"):
        stage_of(make_site(), "small", start, private, 0)
