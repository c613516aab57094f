"""What a site is told before it joins: what it agrees to, and what would be in the way."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from polyclinic.cli import main
from polyclinic.config import (
    DataConfig,
    FederationConfig,
    PrivacyConfig,
    SiteConfig,
    UniversalConfig,
)
from polyclinic.deploy import gateway as door_module
from polyclinic.deploy.agreement import Agreement
from polyclinic.deploy.folders import write_record
from polyclinic.deploy.preflight import check_data, preflight
from polyclinic.deploy.site import join
from polyclinic.deploy.terms import terms
from polyclinic.errors import ConfigError

from .conftest import invited, serving

pytest.importorskip("flwr")
AGREED = Agreement(("north", "south", "west"), ("universal", "fedavg"), (0, 3))
SMALL = DataConfig(image_size=16, val_share=0.2, test_share=0.25)
SHOWN = (
    *("other sites", "methods", "seeds", "stages", "images", "split"),
    *("training", "what leaves", "scores", "privacy", "aggregation", "comparison"),
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("POLYCLINIC_CACHE", str(tmp_path / "cache"))


def found(tmp_path, invite):
    return {c.what: (c.mark, c.text) for c in preflight(invite, tmp_path / "site")}


def told(agreement):
    return {c.what: (c.mark, c.text) for c in terms(agreement, "north")}


def looked_at(tmp_path, keys, data, agreed, format="auto", task="auto"):
    """(mark, text) of all that is said of the data."""
    invited(tmp_path, keys, agreed=agreed)
    site = SiteConfig("data", data, format, task)
    invite = tmp_path / "invites" / "north.invite"
    return [(c.mark, c.text) for c in check_data(invite, site)]


def test_the_preflight_finds_what_is_in_the_way(tmp_path, keys):
    with serving(keys) as port:
        invited(tmp_path, keys, port)
        path = tmp_path / "invites" / "north.invite"
        checked = found(tmp_path, path)
        assert [what for what, (mark, _) in checked.items() if mark == "wrong"] == []
        assert set(checked) == {
            *("Flower", "disk", "invitation", "certificate", "server", "clock", *SHOWN)
        }
    assert "cannot be reached" in found(tmp_path, path)["server"][1]
    assert found(tmp_path, tmp_path / "gone")["invitation"][0] == "wrong"


def test_a_clock_that_is_off_is_found(tmp_path, keys, monkeypatch):
    monkeypatch.setattr(
        door_module._Handler, "date_time_string", lambda _: "Sat, 01 Jan 2000 00:00:00 GMT"
    )
    with serving(keys) as port:
        invited(tmp_path, keys, port)
        mark, text = found(tmp_path, tmp_path / "invites" / "north.invite")["clock"]
    assert mark == "wrong"
    assert "at most 60 s are allowed" in text


def test_a_folder_of_another_site_is_found(tmp_path, keys):
    invited(tmp_path, keys)
    write_record(tmp_path / "site" / "site.json", {"name": "else", "ca": "another"})
    mark, text = found(tmp_path, tmp_path / "invites" / "north.invite")["folder"]
    assert mark == "wrong"
    assert "belongs to the site `else` of another federation" in text


def test_a_site_is_shown_all_that_it_agrees_to():
    shown = told(AGREED)
    assert {what: text for what, (mark, text) in shown.items() if mark == "agreed"} == {
        "other sites": "south, west",
        "methods": "universal, fedavg",
        "seeds": "0, 3",
        "stages": "4 of each method and seed",
        "images": "fitted into 48 px, of segmentation 256 px at most; up to 5 % may be unreadable",
        "split": "15 % to validate, 20 % to test, drawn with seed 0; all others to train on",
        "training": (
            "a stage is 24 to 40 batches of 32 images, at a learning rate of 0.001 that falls; for "
            "one encoder a stage"
        ),
        "what leaves": (
            "each stage, the change of the encoder's weights, in float32, and how many images it "
            "trains on, its loss and two validation scores"
        ),
        "scores": (
            "two of one encoder of each training, on the site's test images, are told, unless it "
            "joins with --keep-scores"
        ),
        "privacy": "none of images or patients: changes leave without noise",
        "aggregation": "open: the server sees this site's change",
    }
    assert shown["comparison"] == (
        "warning",
        "off: a lying server could send this site an encoder of its own, whose change shows more "
        "of the site's images; the coordinator turns it on with federation.echo = 2 in the "
        "federation's file, and invites anew",
    )
    assert tuple(shown) == SHOWN


def test_what_differs_by_agreement_is_shown():
    private = told(replace(AGREED, privacy=PrivacyConfig(epsilon=8.0)))
    assert private["what leaves"][1].endswith("in float32, and no number of its images")
    assert private["scores"] == ("agreed", "none is told")
    secure = told(replace(AGREED, federation=FederationConfig(secure=True), threshold=3))
    assert "weights, masked, and how many" in secure["what leaves"][1]
    assert secure["comparison"][0] == "agreed"
    echo = told(replace(AGREED, federation=FederationConfig(echo=2)))
    assert echo["comparison"][0] == "agreed"
    assert "that 2 of 3 sites have signed" in echo["comparison"][1]
    in_turn = told(replace(AGREED, universal=UniversalConfig(exchange="cyclic")))
    assert in_turn["comparison"][0] == "warning"
    assert in_turn["comparison"][1].endswith("in turn there is nothing to compare")
    few = told(replace(AGREED, data=DataConfig(max_train_images=90)))
    assert few["split"][1].endswith("at most 90 images to train on")


def test_the_preflight_says_what_will_be_spent(tmp_path, keys, monkeypatch):
    agreed = replace(
        AGREED,
        seeds=(0,),
        federation=FederationConfig(secure=True),
        privacy=PrivacyConfig(epsilon=8.0),
        threshold=3,
    )
    invited(tmp_path, keys, agreed=agreed)
    path = tmp_path / "invites" / "north.invite"
    checked = found(tmp_path, path)
    assert checked["privacy"] == (
        "agreed",
        "epsilon at most 8 at delta 1e-05 for each record, in each of 2 trainings; together at "
        "most 16 at delta 2e-05",
    )
    assert "the server sees the sum of 3 sites or more of 3" in checked["aggregation"][1]
    real = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda n: None if n == "opacus" else real(n))
    mark, text = found(tmp_path, path)["privacy"]
    assert mark == "wrong"
    assert text.endswith("install polyclinic[privacy]")
    (tmp_path / "data").mkdir()
    with pytest.raises(ConfigError, match=r"needs the extra `privacy`"):
        join(path, tmp_path / "site", data=tmp_path / "data", format="auto", task="auto")
    assert not (tmp_path / "site").exists()


def test_good_data_are_described(tmp_path, keys, hospitals):
    (mark, text), *_ = looked_at(tmp_path, keys, hospitals / "north", replace(AGREED, data=SMALL))
    assert mark == "good"
    assert "single-label, 32 images (" in text
    assert text.endswith("no patients are named")


def test_files_that_are_no_images_are_found(tmp_path, keys, hospitals):
    data = tmp_path / "data"
    for label in "ab":
        (data / label).mkdir(parents=True)
        for n in range(8):
            (data / label / f"{n}.png").write_text("no image")
    ((mark, text),) = looked_at(tmp_path, keys, data, AGREED)
    assert mark == "wrong"
    assert "site 'north': 16 of 16 images (100 %) cannot be read" in text


def test_a_few_that_cannot_be_read_are_a_warning(tmp_path, keys):
    data = tmp_path / "data"
    for label in range(2):
        (data / f"{label}").mkdir(parents=True)
        for n in range(16):
            pixels = np.random.default_rng(16 * label + n).integers(0, 255, (16, 16))
            Image.fromarray(pixels.astype(np.uint8)).save(data / f"{label}" / f"{n}.png")
    (data / "0" / "0.png").write_text("no image")
    agreed = replace(AGREED, data=SMALL)
    (first, *more) = looked_at(tmp_path, keys, data, agreed)
    assert first[0] == "good"
    assert [text for mark, text in more if mark == "warning" and "0/0.png: cannot be read" in text]


def test_what_a_stage_would_refuse_is_found(tmp_path, keys, hospitals):
    agreed = replace(AGREED, data=SMALL)
    north = hospitals / "north"
    for privacy, text in (
        (PrivacyConfig(epsilon=8.0, unit="patient"), "its data name no patients"),
        (PrivacyConfig(epsilon=8.0, delta=0.5), "privacy.delta is 0.5, and it has"),
    ):
        ((mark, said),) = looked_at(tmp_path, keys, north, replace(agreed, privacy=privacy))
        assert (mark, text in said) == ("wrong", True), said
    regression = tmp_path / "regression"
    regression.mkdir()
    rows = ["path,label"]
    for n in range(32):
        pixels = np.random.default_rng(n).integers(0, 255, (16, 16)).astype(np.uint8)
        Image.fromarray(pixels).save(regression / f"{n}.png")
        rows.append(f"{n}.png,{n + 0.5}")
    (regression / "labels.csv").write_text("\n".join(rows) + "\n")
    private = replace(agreed, privacy=PrivacyConfig(epsilon=8.0))
    ((mark, said),) = looked_at(tmp_path, keys, regression, private)
    assert (mark, "regression scales its targets" in said) == ("wrong", True), said
    ((mark, said),) = looked_at(tmp_path, keys, tmp_path / "nowhere", agreed)
    assert (mark, "no such folder; expected the site's data" in said) == ("wrong", True)
    ((mark, said),) = looked_at(tmp_path, keys, north, agreed, task="segmentation")
    assert (mark, "segmentation" in said) == ("wrong", True), said


def test_the_command_shows_it_and_its_exit_code_says_whether_something_is_wrong(
    tmp_path, keys, hospitals, capsys
):
    with serving(keys) as port:
        invited(tmp_path, keys, port, agreed=replace(AGREED, data=SMALL))
        invite = str(tmp_path / "invites" / "north.invite")
        options = ["--data", str(hospitals / "north"), "--state", str(tmp_path / "site")]
        assert main(["site", "check", invite, *options]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert "agreed   other sites: south, west" in lines
        assert [line for line in lines if line.startswith("warning  comparison: off: a lying")]
        assert [line for line in lines if line.startswith("good     data: ")]
        declared = ["--format", "class-folders", "--task", "segmentation"]
        assert main(["site", "check", invite, *options, *declared]) != 0
