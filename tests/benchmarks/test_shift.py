"""Places left out of a site: how they are told apart, and what is left."""

import numpy as np
import pytest

import shift
import shift_domains
from polyclinic.data.dataset import SiteData
from polyclinic.errors import DataError


def site(keys, images=None, name="skin"):
    rows = np.arange(len(keys))
    return SiteData(
        name,
        "single-label",
        ("a", "b"),
        np.zeros((len(keys), 3, 4, 4), np.uint8) if images is None else images,
        rows % 2,
        rows // 2,
        tuple(keys),
        {"train": rows[:6], "val": rows[6:9], "test": rows[9:]},
        "folders",
    )


def test_clinics_are_read_from_the_table(tmp_path):
    (tmp_path / "labels.csv").write_text("path,label,site\nb.png,x,vienna\na.png,y,vidir\n")
    found = shift_domains.by_clinic(site(["a.png", "b.png"]), tmp_path)
    assert found.tolist() == ["vidir", "vienna"]


def test_hospitals_and_cameras_are_read_from_names(tmp_path):
    hospitals = site(["TCGA_DU_5849#12", "TCGA_CS_4942#3"])
    assert shift_domains.by_hospital(hospitals, tmp_path).tolist() == ["DU", "CS"]
    cameras = site(["images/hrf_15_g.jpg", "chase_Image_01L.jpg"])
    assert shift_domains.by_camera(cameras, tmp_path).tolist() == ["hrf", "chase"]


def test_microscopies_are_seen_in_the_images(tmp_path):
    dark, light = (np.full((3, 4, 4), value, np.uint8) for value in (12, 200))
    pink = light.copy()
    pink[1] = 120
    found = shift_domains.by_microscopy(site(["a", "b", "c"], np.stack([dark, light, pink])), "")
    assert found.tolist() == ["fluorescence", "bright field", "stained"]


def test_a_place_is_judged_and_nothing_else_and_the_test_split_is_gone(monkeypatch):
    monkeypatch.setattr(shift_domains, "LEAST", 2)
    whole = site([f"{i}.png" for i in range(12)])
    here = np.arange(12) % 3 == 0  # 0 3 6 9
    found = shift_domains.shifted(whole, here).split
    assert found["train"].tolist() == [1, 2, 4, 5]
    assert found["val"].tolist() == [7, 8]
    assert found["test"].tolist() == [0, 3, 6]


def test_a_class_that_nobody_can_learn_any_more_is_not_judged(monkeypatch):
    monkeypatch.setattr(shift_domains, "LEAST", 2)
    whole = site([f"{i}.png" for i in range(12)])
    here = np.isin(np.arange(12), [1, 2, 3, 6, 7])  # one of class b is left: 5
    found = shift_domains.shifted(whole, here).split
    assert found["train"].tolist() == [0, 4, 5]
    assert found["test"].tolist() == [2, 6]


def test_a_place_that_holds_everything_cannot_be_left_out():
    whole = site([f"{i}.png" for i in range(12)])
    with pytest.raises(DataError, match="'skin': no image is left in train, val"):
        shift_domains.shifted(whole, np.ones(12, bool))


def test_a_table_that_does_not_say_where_an_image_is_from_is_refused(tmp_path):
    (tmp_path / "labels.csv").write_text("path,label,site\nb.png,x,vienna\na.png,y,\n")
    with pytest.raises(DataError, match=r"column `site` says nothing of a\.png"):
        shift_domains.by_clinic(site(["a.png", "b.png"]), tmp_path)


def test_the_result_is_a_mean_over_seeds():
    def row(place, seed, ours):
        scores = {"universal": ours, "mim": 0.5, "local": 0.75}
        said = {"images": 9, "patients": 4, "metric": "auroc", "gains": {}}
        return {"site": "skin", "place": place, "seed": seed, **said} | {
            "scores": dict.fromkeys(shift.JUDGED_BY, scores)
        }

    rows = [row("vienna", 0, 0.6), row("vienna", 1, 0.8), row("vidir", 0, 0.9)]
    result = shift.summed_up(rows)
    vienna, vidir = result["places"]
    assert vienna["seeds"] == [0, 1]
    assert vienna["fine-tune"]["universal"] == pytest.approx(0.7)
    assert vidir["linear-probe"] == pytest.approx({"universal": 0.9, "mim": 0.5, "local": 0.75})
    assert result["better"]["fine-tune"] == {"mim": "2 of 2", "local": "1 of 2"}
