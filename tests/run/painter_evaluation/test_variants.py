"""The ways of painting: what each can do, what it costs, and that nothing else is touched."""

import numpy as np
import pytest

from polyclinic.errors import ConfigError
from polyclinic.inpaint.crops import outlines
from polyclinic.inpaint.painting import Settings, paint
from polyclinic.run.painter_evaluation.plan import plan_edits
from polyclinic.run.painter_evaluation.variants import (
    baselines,
    diffusion,
    regressor,
    repainted,
    variants_of,
)

pytestmark = pytest.mark.usefixtures("exact")


@pytest.fixture
def edits(cases):
    return plan_edits(cases[2:3], outlines(cases[:2]), 1, 0)


def painted(variant, edit, seed=5):
    return variant.paint(edit.slices, list(edit.regions), edit.sequence, edit.case.head_px, seed)


def test_every_variant_paints_the_region_and_nothing_else(painter, edits):
    variants = [
        *variants_of(painter("flow"), 3),
        *variants_of(painter("ddpm"), 2),
        *variants_of(painter("regression"), 3),
        repainted("RePaint", painter("ddpm"), steps=2, resamplings=1, jump=1),
        *baselines(),
    ]
    assert [v.calls for v in variants] == [6, 6, 4, 4, 2, 2, 0, 0]
    varies = [True, False, True, False, False, True, False, False]
    assert [v.varies for v in variants] == varies
    for variant in variants:
        for edit in variant.chooses(edits):
            found = painted(variant, edit)
            inside = edit.fill_mask
            np.testing.assert_array_equal(found.slices[~inside], edit.slices[~inside])
            assert (found.slices[inside] != edit.slices[inside]).any()
            assert ((found.realised >= 0) == inside).all()


@pytest.mark.parametrize(
    ("objective", "settings"),
    [
        ("flow", Settings(steps=3, guidance=1.0)),
        ("flow", Settings(steps=3, guidance=2.0)),
        ("flow", Settings(steps=3, mode="mean")),
        ("flow", Settings(steps=3, guidance=2.0, mode="mean")),
        ("ddpm", Settings(steps=3)),
        ("regression", Settings(steps=3, mode="mean")),
    ],
)
def test_the_network_is_called_as_often_as_it_says(painter, edits, objective, settings):
    one = painter(objective)
    counted = []
    one.network.register_forward_hook(lambda *_: counted.append(1))
    variant = diffusion("v", one, settings)
    single = [e for e in edits if len(e.slices) == 1 and (e.shape, e.kind) != ("box", "tumour")]
    assert {e.kind for e in single} == {"infill", "tumour"}
    for edit in single:  # in boxes tumours are painted twice
        counted.clear()
        painted(variant, edit)
        assert len(counted) == variant.calls_for(edit)
    assert max(map(variant.calls_for, single)) == variant.calls


def test_those_that_know_no_components_paint_tumour_free_tissue_only(painter, edits):
    variant = repainted("RePaint", painter("ddpm"), steps=2, limit=2)
    chosen = variant.chooses(edits)
    assert len(chosen) == 2
    assert {edit.kind for edit in chosen} <= {"infill", "volume"}
    everything = diffusion("flow", painter("flow"), Settings())
    assert everything.chooses(edits) == edits


def test_the_edits_seed_decides_and_guidance_costs_twice(painter, edits):
    variant = diffusion("flow", painter("flow"), Settings(steps=3, guidance=2.0, seed=99))
    assert variant.calls == 6
    edit = edits[0]
    settings = Settings(steps=3, guidance=2.0, seed=5)
    direct = paint(
        painter("flow"),
        edit.slices,
        list(edit.regions),
        edit.sequence,
        edit.case.head_px,
        settings,
    )
    np.testing.assert_array_equal(painted(variant, edit).slices, direct.slices)
    assert (painted(variant, edit, seed=6).slices != direct.slices).any()


def test_repaint_ends_with_what_it_walked_to(painter, edits, monkeypatch):
    from polyclinic.run.painter_evaluation import variants as module

    walked = []

    def fake(plain, request, noise, steps, gen, resamplings, jump):
        walked.append((steps, resamplings, jump))
        return noise * 0 + 0.25

    monkeypatch.setattr(module, "repaint_request", fake)
    (edit, *_) = [e for e in edits if e.kind == "infill"]
    found = painted(repainted("RePaint", painter("ddpm"), 7, resamplings=3, jump=2), edit)
    np.testing.assert_allclose(found.slices[edit.fill_mask], 0.25, atol=1e-6)
    assert walked == [(7, 3, 2)]


def test_a_painter_of_the_wrong_kind_is_refused(painter):
    with pytest.raises(ConfigError, match=r"regressor: expected .* `regression`, got .* `flow`"):
        regressor("regressor", painter("flow"))
    with pytest.raises(ConfigError, match=r"RePaint: expected .* `ddpm`, got .* `flow`"):
        repainted("RePaint", painter("flow"), 4)
