"""Values of the right type that no run can use are refused."""

import pytest

from polyclinic.errors import ConfigError

SITE = {"name": "a", "path": "a"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"corpus": "a"}, "is the site `a`; its images would reach the server"),
        ({"sites": []}, "f.toml: no site; add a [[sites]] table with name and path"),
        ({"sites": [SITE, SITE]}, "f.toml: two sites are called `a`; names must differ"),
        ({"sites": [{"name": "a/b", "path": "a"}]}, "f.toml: site name 'a/b': use letters"),
        ({"sites": [{"name": "", "path": "a"}]}, "f.toml: site name '': use letters"),
        ({"name": "../x"}, "f.toml: name '../x': use letters"),
        ({"seeds": []}, "f.toml: seeds: expected at least one, each once, got []"),
        ({"seeds": [1, 1]}, "f.toml: seeds: expected at least one, each once, got [1, 1]"),
        ({"seeds": [-1]}, "f.toml: seeds: expected 0 or more, got -1"),
        ({"jobs": 0}, "f.toml: jobs: expected 1 or more, got 0"),
        ({"local": {"batch_size": 1}}, "f.toml: local.batch_size: expected 2 or more, got 1"),
        ({"local": {"stages": 0}}, "f.toml: local.stages: expected 1 or more, got 0"),
        ({"mim": {"learning_rate": 0}}, "f.toml: mim.learning_rate: expected above 0, got 0"),
        (
            {"local": {"learning_rate": float("nan")}},
            "f.toml: local.learning_rate: expected above 0, got nan",
        ),
        ({"fedprox": {"mu": float("inf")}}, "f.toml: fedprox.mu: expected 0 or more, got inf"),
        ({"mim": {"mask_ratio": 1.0}}, "mim.mask_ratio: expected above 0 and below 1, got 1.0"),
        ({"universal": {"trim": 0.5}}, "universal.trim: expected 0 to below 0.5, got 0.5"),
        ({"federation": {"norm_factor": 1}}, "norm_factor: expected 0, or above 1, got 1"),
        ({"federation": {"norm_factor": -2}}, "norm_factor: expected 0, or above 1, got -2"),
        ({"universal": {"teacher_drop": 1}}, "teacher_drop: expected 0 to below 1, got 1"),
        ({"data": {"max_unreadable": 2}}, "data.max_unreadable: expected 0 to 1, got 2"),
        ({"data": {"largest_side": 8}}, "data.largest_side: expected 16 or more, got 8"),
        (
            {"data": {"val_share": 0.5, "test_share": 0.5}},
            "f.toml: data.val_share and data.test_share: expected a sum below 0.9, so that enough "
            "is left to train on; got 1",
        ),
        ({"mim": {"patch": 6}}, "f.toml: mim.patch: expected a multiple of 4 px, got 6"),
        ({"mim": {"patch": 0}}, "f.toml: mim.patch: expected a multiple of 4 px, got 0"),
        (
            {"data": {"image_size": 40}},
            "f.toml: data.image_size: expected a multiple of 16 px and of mim.patch (8), got 40",
        ),
    ],
)
def test_what_no_run_can_use_is_named(build, changes, message):
    with pytest.raises(ConfigError) as caught:
        build(**changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"jobs": 100_000},
            r"^f\.toml: jobs: expected at most 256 \(each is a process of its own\)",
        ),
        (
            {"data": {"image_size": 16_000}},
            r"data\.image_size: expected at most 1024 \(.*got 16000$",
        ),
        ({"data": {"largest_side": 10**6}}, r"data\.largest_side: expected at most 4096"),
        ({"local": {"batch_size": 10**9}}, r"local\.batch_size: expected at most 65536"),
        ({"mim": {"batch_size": 10**9}}, r"mim\.batch_size: expected at most 65536"),
        ({"evaluation": {"bootstrap": 10**9}}, r"evaluation\.bootstrap: expected at most 1000000"),
    ],
)
def test_numbers_that_can_only_be_slips(build, changes, message):
    with pytest.raises(ConfigError, match=message):
        build(**changes)


# Privacy.

OF_SITES = {
    "methods": ["universal"],
    "privacy": {"site_epsilon": 8.0},
    "universal": {"distil_every": 0},
    "federation": {"norm_factor": 0.0},
}


def test_differential_privacy_is_off_unless_asked_for(build):
    assert (build().privacy.epsilon, build().privacy.site_epsilon) == (0, 0)
    assert build(privacy={"epsilon": 8, "unit": "patient"}).privacy.unit == "patient"


@pytest.mark.parametrize("method", ["fedbn", "fedmim"])
def test_a_method_that_cannot_train_privately_is_refused_with_a_budget(build, method):
    build(methods=["universal", method])
    with pytest.raises(ConfigError, match=rf"f.toml: privacy.epsilon is set, .* `{method}`"):
        build(methods=["universal", method], privacy={"epsilon": 8.0})


def test_noise_without_a_budget_is_no_privacy(build):
    with pytest.raises(ConfigError, match=r"privacy.noise is 1, but privacy.epsilon is 0"):
        build(privacy={"noise": 1.0})


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("epsilon", -1.0, r"privacy.epsilon: expected 0 or more"),
        ("epsilon", 1e4, r"privacy.epsilon: expected at most 1000 \(that large, it protects"),
        ("delta", 0.01, r"privacy.delta: expected at most 0.001"),
        ("delta", 0.0, r"privacy.delta: expected above 0"),
        ("clip", 0.0, r"privacy.clip: expected above 0"),
        ("site_clip", 0.0, r"privacy.site_clip: expected above 0"),
        ("patient_images", 0, r"privacy.patient_images: expected 1 or more"),
        ("unit", "image", r"privacy: unit: expected one of record, patient"),
    ],
)
def test_what_no_privacy_can_be_made_of_is_refused(build, key, value, text):
    with pytest.raises(ConfigError, match=text):
        build(privacy={key: value})


@pytest.mark.parametrize(
    ("table", "value", "text"),
    [
        ("methods", ["universal", "fedavg"], r"equal weight, and `fedavg` weighs them by size"),
        ("methods", ["universal", "fedbn"], r"equal weight, and `fedbn` weighs them by size"),
        ("universal", {"distil_every": 0, "weighting": "size"}, r'universal.weighting = "equal"'),
        ("universal", {"distil_every": 0, "aggregation": "median"}, r'aggregation = "mean"'),
        ("universal", {}, r"universal.distil_every = 0, got 4: distillation learns from each"),
        (
            "universal",
            {"distil_every": 0, "exchange": "cyclic"},
            r'universal.exchange = "parallel", got \'cyclic\': the noise is that of a mean',
        ),
        ("federation", {}, r"federation.norm_factor = 0, got 10.0: by the median"),
    ],
)
def test_whole_sites_are_private_only_where_each_weighs_the_same(build, table, value, text):
    assert build(**OF_SITES).privacy.site_epsilon == 8
    with pytest.raises(ConfigError, match=rf"f.toml: privacy.site_epsilon needs .*{text}"):
        build(**{**OF_SITES, table: value})
