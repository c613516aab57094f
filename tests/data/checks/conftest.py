"""A clean site in class folders, and what the checks say of a folder."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polyclinic.data.checks import run_checks, survey_folder

SIDE = 48


def picture(number: int, kind: int = 0) -> np.ndarray:
    """Bright below, a mark at the lower left, a blob of the class; no two are alike."""
    rng = np.random.default_rng([number, kind])
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    cx, cy, width = *rng.uniform(0.3, 0.7, 2), 0.12 + 0.1 * kind
    blob = 70 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / width**2)
    coarse = np.kron(rng.normal(0, 14, (8, 8)), np.ones((SIDE // 8, SIDE // 8)))
    mark = 60 * ((x < 0.25) & (y > 0.7))
    pixels = 30 + 60 * y + mark + blob + coarse + rng.normal(0, 4, (SIDE, SIDE))
    return np.clip(pixels, 0, 255).astype(np.uint8)


def save(pixels: np.ndarray, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """60 images of two classes, PNG, grey, 48 px."""
    for number in range(60):
        kind = number % 2
        save(picture(number, kind), tmp_path / "site" / "ab"[kind] / f"{number:02}.png")
    return tmp_path / "site"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """60 images in a table: 30 patients, two images each, splits given."""
    lines = ["path,label,patient_id,split"]
    for number in range(60):
        save(picture(number, number % 2), tmp_path / "listed" / "images" / f"{number:02}.png")
        patient = number // 2
        split = ("train", "train", "train", "val", "test")[patient % 5]
        lines.append(f"images/{number:02}.png,{'ab'[number % 2]},p{patient:02},{split}")
    (tmp_path / "listed" / "labels.csv").write_text("\n".join(lines))
    return tmp_path / "listed"


@pytest.fixture
def masked(tmp_path: Path) -> Path:
    """60 images with a mask each."""
    for number in range(60):
        save(picture(number), tmp_path / "masked" / "images" / f"{number:02}.png")
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[10 : 20 + number % 7, 12:30] = 255
        save(mask, tmp_path / "masked" / "masks" / f"{number:02}.png")
    return tmp_path / "masked"


@pytest.fixture
def found():
    """folder -> findings by check."""

    def run(folder: Path):
        return run_checks(survey_folder(folder, jobs=1, done=lambda _: None), lambda _: None)

    return run


@pytest.fixture
def alarms(found):
    """folder -> where each check warns or calls an error, by check; silent ones are left out."""

    def run(folder: Path) -> dict[str, list[str]]:
        return {
            name: [f.where for f in notes if f.severity != "info"]
            for name, notes in found(folder).items()
            if any(f.severity != "info" for f in notes)
        }

    return run


@pytest.fixture
def draw():
    """(number, class, file) -> the file, with a picture like those of `site` in it."""
    return lambda number, kind, path: save(picture(number, kind), path)
