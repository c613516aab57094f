"""The segmenter: the same from a seed, whole slices in and out, weights that are kept to."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from polyclinic.errors import ConfigError, DataError, RunError
from polyclinic.inpaint.components import UNKNOWN_SEQUENCE
from polyclinic.inpaint.segmenter import (
    INPUTS,
    KNOWN_SEQUENCES,
    Geometry,
    SegmentPlan,
    Slices,
    count_overlaps,
    load_segmenter,
    network_input,
    rare_first,
    save_segmenter,
    segmentation_loss,
    train_segmenter,
)
from polyclinic.models.state import save_state, state_of
from polyclinic.seeding import generator

pytestmark = pytest.mark.usefixtures("exact")

QUICK = settings(max_examples=8, derandomize=True, database=None, deadline=None)
PLAN = SegmentPlan(features=(8,) * 6, steps=2, batch_size=2)


@pytest.fixture(scope="module")
def segmenter():
    """Barely trained, on noise."""
    from polyclinic.inpaint.cases import Case
    from polyclinic.inpaint.intensity import Scaling

    rng = np.random.default_rng(0)
    shape = (2, 16, 16)
    volumes = {n: rng.normal(0, 1, shape).astype(np.float32) for n in (1, 3)}
    components = rng.integers(0, 4, shape).astype(np.uint8)
    case = Case("a", volumes, components, np.ones(shape, bool), {1: Scaling(0, 1)}, 16)
    return train_segmenter([case], PLAN, 0)


def test_the_plan_s_network_has_about_a_million_weights(cases):
    plan = SegmentPlan(steps=1, batch_size=1)
    trained = train_segmenter(cases[:1], plan, 0)
    assert 0.7e6 < sum(p.numel() for p in trained.network.parameters()) < 1.3e6


def test_components_are_drawn_alike_however_few_cases_show_them(cases):
    """Three cases of oedema, one of which shows a core too, and two without a tumour."""
    labels = [(2,), (2,), (1, 2), (), ()]
    made = []
    for shown in labels:
        components = np.zeros_like(cases[0].components)
        for z, component in enumerate(shown):
            components[z, :4] = component
        made.append(dataclasses.replace(cases[0], components=components))
    weights = rare_first(made)
    assert weights == pytest.approx([1 / 3, 1 / 3, 1 + 1 / 3, 1 / 2, 1 / 2])


def test_the_same_seed_gives_the_same_network_and_tells_each_step(cases):
    told = []
    first, again, other = (
        train_segmenter(cases, PLAN, *seed, tell=lambda step, loss: told.append((step, loss)))
        for seed in (("a", 1), ("a", 1), ("a", 2))
    )
    one, two, three = (state_of(found.network) for found in (first, again, other))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], three[name]) for name in one)
    assert [step for step, _ in told] == [1, 2] * 3
    assert told[:2] == told[2:4]
    predicted = first.predict(cases[0].volumes)
    assert np.array_equal(predicted, again.predict(cases[0].volumes))


@QUICK
@given(
    depth=st.sampled_from([1, 3, 17]), height=st.integers(5, 40), width=st.integers(5, 40),
    numbers=st.sets(st.integers(0, UNKNOWN_SEQUENCE), min_size=1),
)  # fmt: skip
def test_any_size_and_any_sequences_give_components_of_that_size(
    segmenter, depth, height, width, numbers
):
    rng = np.random.default_rng(height)
    volumes = {n: rng.normal(0, 1, (depth, height, width)).astype(np.float32) for n in numbers}
    found = segmenter.predict(volumes)
    assert found.shape == (depth, height, width)
    assert found.dtype == np.uint8
    assert found.max() < 5
    alone = segmenter.predict({n: volume[-1:] for n, volume in volumes.items()})
    assert (alone == found[-1:]).mean() > 0.99  # sums may differ in their last bit


@pytest.mark.parametrize("patch", [2, 4])
def test_folded_it_works_on_any_size_and_is_kept(cases, tmp_path, patch):
    folded = train_segmenter(cases, dataclasses.replace(PLAN, patch=patch), 0)
    save_segmenter(folded, tmp_path / "folded.safetensors")
    loaded = load_segmenter(tmp_path / "folded.safetensors")
    assert loaded.patch == patch
    for side in (9, 33, 47):
        volumes = {3: np.random.default_rng(side).normal(0, 1, (2, side, 20)).astype(np.float32)}
        found = folded.predict(volumes)
        assert found.shape == (2, side, 20)
        assert np.array_equal(found, loaded.predict(volumes))


def test_overlaps_are_the_slow_ones(segmenter, cases):
    counts = count_overlaps(segmenter, cases)
    assert counts.shape == (4, 5, 3)
    for case, rows in zip(cases, counts, strict=True):
        found = segmenter.predict(case.volumes)
        pairs = list(zip(found.ravel().tolist(), case.components.ravel().tolist(), strict=True))
        for number, row in enumerate(rows):
            kinds = {number} if number else {1, 2, 3, 4}
            assert row.tolist() == [
                sum(a in kinds and b in kinds for a, b in pairs),
                sum(a in kinds for a, _ in pairs),
                sum(b in kinds for _, b in pairs),
            ]
    assert count_overlaps(segmenter, []).shape == (0, 5, 3)


def test_what_cannot_be_segmented(segmenter):
    plane = np.zeros((1, 8, 8), np.float32)
    for volumes in ({}, {7: plane}, {0: plane, 1: plane[:, :4]}, {0: plane[0]}):
        with pytest.raises(DataError, match=r"expected at least one of the sequences 0 to 4, all"):
            segmenter.predict(volumes)


def test_channels_say_what_is_there():
    planes = {1: np.full((3, 4), 0.5, np.float32), 4: np.full((3, 4), -0.5, np.float32)}
    channels = network_input(planes)
    assert channels.shape == (INPUTS, 3, 4)
    assert [float(channel.max() + channel.min()) / 2 for channel in channels] == [
        0, 0.5, 0, 0, -0.5, 0, 1, 0, 0, 1
    ]  # fmt: skip


@pytest.mark.parametrize("geometry", [None, Geometry()])
def test_batches_follow_from_their_number(cases, geometry):
    plan = dataclasses.replace(PLAN, geometry=geometry, batch_size=6)
    slices = Slices(cases, plan, 0)
    late = slices.batch(5)
    fresh = Slices(cases, plan, 0).batch(5)
    assert all(torch.equal(a, b) for a, b in zip(late, fresh, strict=True))
    assert not torch.equal(late[0], slices.batch(6)[0])
    assert late[0].shape == (6, INPUTS, 32, 32)
    assert late[1].shape == (6, 32, 32)


def test_slices_are_padded_around_and_shown_as_they_are(cases):
    case = cases[0]
    plan = dataclasses.replace(PLAN, dropped=0.0, batch_size=4)
    odd = dataclasses.replace(
        case,
        volumes={n: v[:, :27, :30] for n, v in case.volumes.items()},
        components=case.components[:, :27, :30],
        head=case.head[:, :27, :30],
    )
    images, targets = Slices([odd], plan, 0).batch(0)
    whole = {plane.tobytes() for plane in odd.volumes[1]}
    for image, target in zip(images.numpy(), targets.numpy(), strict=True):
        assert np.ascontiguousarray(image[1, 2:29, 1:31]).tobytes() in whole
        assert (image[1, :2] == -1).all()
        assert (target[:2] == 0).all()


def test_images_and_labels_turn_together(cases):
    """A sequence that shows the labels themselves still does after any view."""
    case = cases[0]
    shown = np.where(case.components > 0, 1, -1).astype(np.float32)
    plain = Geometry(contrast=0, brightness=0)
    plan = dataclasses.replace(PLAN, geometry=plain, batch_size=16, dropped=0.0)
    images, targets = Slices([dataclasses.replace(case, volumes={1: shown})], plan, 0).batch(0)
    agree = (images[:, 1] > 0) == (targets > 0)
    assert float(agree.float().mean()) > 0.99
    assert len({target.numpy().tobytes() for target in targets}) > 10


def test_hidden_sequences_leave_one(cases):
    plan = dataclasses.replace(PLAN, dropped=1.0, batch_size=20)
    images, _ = Slices(cases, plan, 0).batch(0)
    there = images[:, KNOWN_SEQUENCES:].amax((2, 3))
    assert there.sum(1).tolist() == [1.0] * 20
    assert set(there.argmax(1).tolist()) == {1, 3}


def test_weights_say_how_often_a_case_is_seen(cases):
    marked = [
        dataclasses.replace(case, volumes={1: np.full_like(case.volumes[1], number)})
        for number, case in enumerate(cases)
    ]
    plan = dataclasses.replace(PLAN, batch_size=400)
    images, _ = Slices(marked, plan, 0, weights=[0, 1, 3, 0]).batch(0)
    seen = images[:, 1, 16, 16].tolist()
    assert set(seen) == {1.0, 2.0}
    assert seen.count(2.0) / len(seen) == pytest.approx(0.75, abs=0.07)


def test_cases_of_one_kind_leave_the_share_of_tumour_free_slices_as_it_is(cases):
    """Of painted cases, only the slices with the new tumour are trained on."""

    def half(case):
        components = case.components.copy()
        components[1:] = 0
        return dataclasses.replace(case, components=components)

    plan = dataclasses.replace(PLAN, batch_size=400, tumour_slices=0.7)
    real, painted = [half(case) for case in cases[:2]], cases[2:]
    for some, weights in (
        (real, None),
        ([*real, *painted], None),
        ([*real, *painted], [1, 1, 3, 3]),
    ):
        _, targets = Slices(some, plan, 0, weights=weights).batch(0)
        shown = (targets > 0).any(2).any(1).float().mean()
        assert float(shown) == pytest.approx(0.7, abs=0.06)
    for some, share in ((painted, 1.0), ([dataclasses.replace(c, components=0 * c.components)
                                          for c in real], 0.0)):  # fmt: skip
        _, targets = Slices(some, plan, 0).batch(0)
        assert float((targets > 0).any(2).any(1).float().mean()) == share


@pytest.mark.parametrize(
    ("weights", "match"),
    [([1, 1], r"expected 4 numbers that are not negative, one a case"),
     ([1, 1, -1, 1], r"not negative"), ([1, 1, float("nan"), 1], r"not negative"),
     ([0, 0, 0, 0], r"weights: all are 0")],
)  # fmt: skip
def test_weights_that_fit_no_cases(cases, weights, match):
    with pytest.raises(ConfigError, match=match):
        Slices(cases, PLAN, 0, weights=weights)


def test_what_cannot_be_trained(cases):
    with pytest.raises(DataError, match=r"no case to train a segmenter on"):
        train_segmenter([], PLAN, 0)
    with pytest.raises(ConfigError, match=r"at least 1 step and 1 slice a batch, got 0 and 2"):
        dataclasses.replace(PLAN, steps=0)
    with pytest.raises(ConfigError, match=r"patch: expected one of \(1, 2, 4\), got 3"):
        dataclasses.replace(PLAN, patch=3)
    with pytest.raises(ConfigError, match=r"features: expected six multiples of 8"):
        train_segmenter(cases, dataclasses.replace(PLAN, features=(8, 8)), 0)
    broken = {n: np.full_like(v, np.nan) for n, v in cases[0].volumes.items()}
    with pytest.raises(RunError, match=r"the loss of step 0 is NaN or infinite; check the cases"):
        train_segmenter([dataclasses.replace(cases[0], volumes=broken)], PLAN, 0)


def test_the_loss_is_the_slow_one_over_components_that_are_there():
    logits = torch.randn(2, 5, 4, 4, generator=generator(0))
    targets = torch.randint(0, 3, (2, 4, 4), generator=generator(1))
    shares = logits.softmax(1)
    dices = []
    for component in range(3):
        truth = (targets == component).float()
        overlap = float((shares[:, component] * truth).sum())
        total = float(shares[:, component].sum() + truth.sum())
        dices.append((2 * overlap + 1) / (total + 1))
    expected = float(F.cross_entropy(logits, targets)) + 1 - sum(dices) / 3
    assert float(segmentation_loss(logits, targets)) == pytest.approx(expected, rel=1e-5)


def test_saved_and_loaded_it_predicts_the_same(segmenter, tmp_path):
    path = tmp_path / "segmenter.safetensors"
    save_segmenter(segmenter, path)
    loaded = load_segmenter(path)
    volumes = {3: np.random.default_rng(1).normal(0, 1, (2, 20, 24)).astype(np.float32)}
    assert np.array_equal(loaded.predict(volumes), segmenter.predict(volumes))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_files_that_hold_no_segmenter(segmenter, tmp_path):
    path = tmp_path / "other.safetensors"
    save_state({"a": torch.zeros(1)}, path)
    with pytest.raises(RunError, match=r"other.safetensors: holds no segmenter of this version"):
        load_segmenter(path)
    save_state(state_of(segmenter.network), path, {"segmenter": '{"features": [8, 8]}'})
    with pytest.raises(ConfigError, match=r"features: expected six"):
        load_segmenter(path)
    path.write_bytes(b"damaged")
    with pytest.raises(RunError, match=r"not a readable checkpoint"):
        load_segmenter(path)
