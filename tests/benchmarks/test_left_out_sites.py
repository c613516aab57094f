"""Each site left out in turn: what is judged, from which encoders, once; and the bar."""

import json
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

import left_out_sites
from eight_sites_study import LEAD, SINGLE, TOUCHED
from polyclinic.models.state import load_state

NAMES = ("north", "south", "west")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three sites of two classes, and a corpus."""
    folder = tmp_path_factory.mktemp("left-out")
    rng = np.random.default_rng(0)
    for name in NAMES:
        for label in range(2):
            own = folder / "sites" / name / f"class{label}"
            own.mkdir(parents=True)
            for n in range(16):
                pixels = rng.integers(0, 160, (16, 16)) + label * 60
                Image.fromarray(pixels.astype(np.uint8)).save(own / f"{n:02d}.png")
    (folder / "corpus").mkdir()
    for n in range(12):
        pixels = rng.integers(0, 255, (16, 16, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "corpus" / f"{n}.png")
    return folder


def call(monkeypatch, data, work, *more):
    words = [str(data), "--work", str(work), "--packs", str(work / "packs"), "--seeds", "0"]
    words += ["--set", *left_out_sites.SMOKE, "mim.batch_size=8", "evaluation.bootstrap=20"]
    words += ["--out", str(work / "result.json"), *map(str, more)]
    monkeypatch.setattr(sys, "argv", ["left_out_sites.py", *words])
    left_out_sites.main()
    return json.loads((work / "result.json").read_text())


@pytest.fixture(autouse=True)
def _alike(exact, monkeypatch, tmp_path_factory):
    monkeypatch.setenv("POLYCLINIC_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def test_every_site_is_left_out_once_and_judged_in_every_way(data, tmp_path, monkeypatch):
    result = call(monkeypatch, data, tmp_path)
    found = {(row["method"], row["protocol"], row["site"]) for row in result["scores"]}
    assert found == {
        (encoder, protocol, site)
        for encoder in left_out_sites.ENCODERS
        for protocol in left_out_sites.PROTOCOLS
        for site in NAMES
    }
    others = {"mim", SINGLE, "random"}
    assert {row["over"] for row in result["gains"]} == others | {left_out_sites.PAIR}
    assert {row["over"] for row in result["beside"]["gains"]} == others | {LEAD}
    assert result["bar"]["pass"] is None  # three sites and one seed decide nothing
    encoders = [load_state(tmp_path / "seed-0" / f"without-{n}" / "encoder.safetensors")
                for n in NAMES]  # fmt: skip
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert any((encoders[one][k] != encoders[other][k]).any() for k in encoders[one])
    for name in NAMES:
        source = result["runs"][0]["sources"][name]
        assert name not in source["validation"]
        assert source["validation"][source["chosen"]] == max(source["validation"].values())
    assert (tmp_path / "packs" / TOUCHED).is_file()
    shutil.rmtree(tmp_path / "seed-0")  # the pack is enough
    again = call(monkeypatch, data, tmp_path)
    assert not (tmp_path / "seed-0").exists()
    for key in ("scores", "gains", "comparisons", "bar", "beside"):
        assert again[key] == result[key]
    with pytest.raises(SystemExit, match=r"left_out_sites: .*test splits are judged with other"):
        call(monkeypatch, data, tmp_path, "--set", "mim.epochs=2")


def rows(over, values):
    return [
        {"over": over, "protocol": "10-labels", "site": f"s{n}", "value": value}
        for n, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("over_mim", "over_single", "passes"),
    [([1] * 6 + [-1] * 2, [1] * 8, True), ([1] * 5 + [-1] * 3, [1] * 8, False),
     ([1] * 8, [1] * 5 + [0, -1, None], False)],
)  # fmt: skip
def test_six_of_eight_sites_must_be_won_over_both(over_mim, over_single, passes):
    gained = [*rows("mim", over_mim), *rows(SINGLE, over_single)]
    assert left_out_sites.bar(gained, 5)["pass"] is passes
    assert left_out_sites.bar(gained, 4)["pass"] is None
    assert left_out_sites.bar(gained[:4] + gained[8:12], 5)["pass"] is None
