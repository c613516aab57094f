"""How long painting takes: what is measured of which way to paint."""

import json
import sys

import pytest

import painter_speed
from polyclinic.inpaint import network
from polyclinic.inpaint.network import NetworkConfig

TINY = NetworkConfig((16, 16), (False, False), blocks=1, patch=2, crop=16, head_px=48)


@pytest.mark.usefixtures("exact")
def test_slices_are_timed_by_size_and_crops_at_once_where_there_is_a_network(tmp_path, monkeypatch):
    monkeypatch.setitem(network.SIZES, "small", TINY)
    out = tmp_path / "speed.json"
    monkeypatch.setattr(sys, "argv", ["painter_speed.py", "--smoke", "--out", str(out)])
    painter_speed.main()
    result = json.loads(out.read_text())
    sampled = ["flow", "ddpm", "mean", "regression", "RePaint"]
    assert [row["objective"] for row in result["painting"]] == [*sampled, "biharmonic", "telea"]
    assert {row["size_px"] for row in result["painting"]} == {48}
    assert not any("bulk" in row for row in result["painting"])
    assert all(row["one"]["median"] > 0 for row in result["painting"])
    assert result["bulk"]["what"] == "2 crops of 16 px at once, the sampler alone"
    assert [row["objective"] for row in result["bulk"]["rows"]] == sampled
    assert not any("size_px" in row for row in result["bulk"]["rows"])
    assert all(row["crop"]["median"] > 0 for row in result["bulk"]["rows"])
