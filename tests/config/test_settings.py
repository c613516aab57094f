"""`quick` reduces, and nothing else."""

from pathlib import Path

from polyclinic.config import config_from_dict, config_to_dict, quick


def test_quick_keeps_the_sites_and_remains_valid(build):
    config = build(
        seeds=[4, 5],
        data={"image_size": 64},
        mim={"patch": 64},
        local={"stages": 2, "max_steps": 5},
    )
    small = quick(config)
    assert small.quick
    assert small.sites == config.sites
    assert small.seeds == (4,)
    assert (small.local.stages, small.local.max_steps) == (2, 5)
    assert config_from_dict(config_to_dict(small), base=Path()) == small
    assert quick(small) == small


def test_quick_raises_no_number_and_switches_nothing_on(build):
    config = build(data={"image_size": 16}, universal={"distil_every": 0, "distil_epochs": 0})
    small = quick(config)
    assert small.data.image_size == 16
    assert (small.universal.distil_every, small.universal.distil_epochs) == (0, 0)
