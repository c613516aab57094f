"""The contact sheet: suspects first, nothing from outside, no text of others taken for markup."""

import re
import shutil

import numpy as np
import pytest
from PIL import Image

from polyclinic.data.phantoms import breast, nuclei
from polyclinic.errors import RunError
from polyclinic.report import contact_sheet
from polyclinic.report.contact_sheet import write_contact_sheet
from polyclinic.run.data_check import check_data
from polyclinic.run.progress import silent


@pytest.fixture
def site(tmp_path):
    breast.write(tmp_path / "site", seed=0, images=48, image_size=32)
    return tmp_path / "site"


def page(site, tmp_path):
    checked = check_data(site, jobs=1, tell=silent)
    return write_contact_sheet(checked, tmp_path / "sheet.html").read_text(encoding="utf-8")


def test_suspects_come_first_and_the_page_needs_nothing_else(site, tmp_path):
    first, second, *_ = sorted(site.rglob("*.png"))
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(first)
    folders = sorted(path for path in site.iterdir() if path.is_dir())
    shutil.copy(second, folders[-1] / "<b>copy.png")
    text = page(site, tmp_path)
    suspects = text[text.index('id="suspects"') : text.index('id="findings"')]
    keys = re.findall(r"<strong>(.*?)</strong>", suspects)
    assert keys[0].endswith("&lt;b&gt;copy.png")  # an error goes before a warning
    assert keys[1].endswith(first.name)
    assert "<b>copy" not in text
    assert text.count('src="data:image/png;base64,') == text.count("<img ")
    assert re.findall(r'(?:src|href)="(?!data:|#)', text) == []
    assert "prefers-color-scheme: dark" in text
    assert "do not send it on" in text


def test_a_clean_site_has_no_suspects(site, tmp_path):
    text = page(site, tmp_path)
    assert 'id="suspects"' not in text
    assert "Nothing was found that needs a correction." in text
    assert 'id="others"' in text


def test_masks_are_drawn_and_pages_stay_small(tmp_path, monkeypatch):
    nuclei.write(tmp_path / "site", seed=0, images=48, image_size=48)
    for path in sorted((tmp_path / "site" / "images").iterdir())[:3]:
        path.write_bytes(b"no image")
    monkeypatch.setattr(contact_sheet, "MAX_SUSPECTS", 2)
    monkeypatch.setattr(contact_sheet, "OTHERS", 4)
    text = page(tmp_path / "site", tmp_path)
    assert "1 more are named below" in text
    assert text.count("cannot be read</div>") == 2
    assert text.count("<img ") <= 4


def test_a_page_that_cannot_be_written_is_one_line(site, tmp_path):
    checked = check_data(site, jobs=1, tell=silent)
    with pytest.raises(RunError, match=r"gone.*cannot be written"):
        write_contact_sheet(checked, tmp_path / "gone" / "sheet.html")


def test_a_folder_that_is_no_site_has_no_task_and_no_classes(tmp_path):
    (tmp_path / "loose").mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "loose" / "a.png")
    checked = check_data(tmp_path / "loose", jobs=1, tell=lambda _: None)
    page = write_contact_sheet(checked, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<dt>Images</dt>" in page
    assert "<dt>Task</dt>" not in page
    assert "<dt>Classes</dt>" not in page
