"""The ways of painting: what each can do, what it costs, and that nothing else is touched."""

import json

import numpy as np
import pytest

from polyclinic.errors import ConfigError
from polyclinic.inpaint.crops import outlines
from polyclinic.inpaint.painting import Settings, paint_sequences
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
    return variant.paint(edit.volumes, list(edit.regions), edit.case.head_px, seed)


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
            assert found.volumes.keys() == edit.volumes.keys()
            for number, before in edit.volumes.items():
                after = found.volumes[number]
                np.testing.assert_array_equal(after[~inside], before[~inside])
                assert (after[inside] != before[inside]).any()
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
def test_how_often_the_network_is_asked_is_counted(painter, edits, objective, settings):
    variant = diffusion("v", painter(objective), settings)
    single = [edit for edit in edits if len(edit.regions) == 1]
    guided = variant.varies and settings.guidance != 1
    asked = {}
    for edit in single:
        found = painted(variant, edit)
        # a box around a tumour: the first sequence is painted twice
        turns = len(edit.sequences) + (edit.kind == "tumour" and edit.shape == "box")
        once = variant.calls // 2 if guided and edit.kind == "infill" else variant.calls
        parts = found.calls / (turns * once)
        assert parts == round(parts)  # regions far from each other are painted in turn
        asked.setdefault((edit.kind, edit.shape), set()).add(parts)
    assert asked.keys() == {(k, s) for k in ("infill", "tumour") for s in ("exact", "box")}
    assert all(1 in parts for parts in asked.values())


def test_what_decides_a_result_is_told(painter):
    one = diffusion("v", painter("flow"), Settings(steps=3, guidance=2.0))
    assert one.about["settings"]["guidance"] == 2.0
    assert one.about["settings"]["power"] == painter("flow").objective.levels.power
    assert one.about["painter"] == "d" * 64
    json.dumps(one.about)
    assert repainted("RePaint", painter("ddpm"), 7, 3, 2).about["walk"] == [7, 3, 2]


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
    edit = next(edit for edit in edits if edit.kind == "tumour")
    settings = Settings(steps=3, guidance=2.0, seed=5)
    direct, realised = paint_sequences(
        painter("flow"), edit.volumes, list(edit.regions), edit.case.head_px, settings
    )
    found, other = painted(variant, edit), painted(variant, edit, seed=6)
    np.testing.assert_array_equal(found.realised, realised)
    for number, slices in direct.items():
        np.testing.assert_array_equal(found.volumes[number], slices)
        assert (other.volumes[number] != slices).any()


def test_repaint_ends_with_what_it_walked_to(painter, edits, monkeypatch):
    from polyclinic.run.painter_evaluation import variants as module

    walked = []

    def fake(plain, request, noise, steps, gen, resamplings, jump):
        walked.append((steps, resamplings, jump))
        return noise * 0 + 0.25

    monkeypatch.setattr(module, "repaint_request", fake)
    (edit, *_) = [e for e in edits if e.kind == "infill"]
    found = painted(repainted("RePaint", painter("ddpm"), 7, resamplings=3, jump=2), edit)
    (slices,) = found.volumes.values()
    np.testing.assert_allclose(slices[edit.fill_mask], 0.25, atol=1e-6)
    assert walked == [(7, 3, 2)]


def test_a_painter_of_the_wrong_kind_is_refused(painter):
    with pytest.raises(ConfigError, match=r"regressor: expected .* `regression`, got .* `flow`"):
        regressor("regressor", painter("flow"))
    with pytest.raises(ConfigError, match=r"RePaint: expected .* `ddpm`, got .* `flow`"):
        repainted("RePaint", painter("flow"), 4)
