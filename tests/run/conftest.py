"""Tiny sites on disk, and a configuration that runs in a second or two."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polyclinic.config import (
    Config,
    DataConfig,
    EvaluationConfig,
    LocalConfig,
    MimConfig,
    SiteConfig,
    UniversalConfig,
)
from polyclinic.run.adoption import adopt
from polyclinic.run.cross_validation import AdoptPlan
from polyclinic.run.encoder_source import find_encoder
from polyclinic.run.experiment import run_experiment


def _classes(folder: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for label in range(2):
        (folder / f"class{label}").mkdir(parents=True)
        for n in range(16):
            pixels = rng.integers(0, 100, (16, 16)) + label * 80
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"class{label}" / f"{n:02d}.png")


def _masks(folder: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for n in range(20):
        x, y = rng.integers(2, 10, 2)
        mask = np.zeros((16, 16), np.uint8)
        mask[y : y + 5, x : x + 5] = 255
        pixels = (rng.integers(0, 60, (16, 16)) + mask // 2).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{n:02d}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{n:02d}.png")


@pytest.fixture(scope="session")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with sites/north, sites/south (classes), sites/west (masks) and corpus/."""
    folder = tmp_path_factory.mktemp("hospitals")
    _classes(folder / "sites" / "north", 1)
    _classes(folder / "sites" / "south", 2)
    _masks(folder / "sites" / "west", 3)
    (folder / "corpus").mkdir()
    rng = np.random.default_rng(4)
    for n in range(12):
        pixels = rng.integers(0, 255, (16, 16, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "corpus" / f"{n}.png")
    return folder


@pytest.fixture
def config(hospitals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Two stages, two methods, one seed, images of 16 px."""
    monkeypatch.setenv("POLYCLINIC_CACHE", str(tmp_path / "cache"))
    return _tiny(hospitals)


@pytest.fixture(scope="session")
def whole_run(hospitals: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished run of `config`; nobody may change it."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYCLINIC_CACHE", str(folder / "cache"))
        run_experiment(_tiny(hospitals), folder / "run")
    return folder / "run"


@pytest.fixture(scope="session")
def finished_run(hospitals: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished run in which `south` was held out; nobody may change it."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYCLINIC_CACHE", str(folder / "cache"))
        patch.setenv("POLYCLINIC_DEVICE", "cpu")
        patch.setenv("POLYCLINIC_PRECISION", "float32")
        run_experiment(replace(_tiny(hospitals), hold_out=("south",)), folder / "run")
    return folder / "run"


@pytest.fixture(scope="session")
def write_image() -> Callable[..., Path]:
    """(path, z, ...) -> a DICOM image of 7 x 5 px, whose values rise, at 2.5 mm times z."""
    return _dicom


def _dicom(
    path: Path, z: int = 0, *, size=(5, 7), frames=1, turn=(1, 0, 0, 0, 1, 0), **more
) -> Path:
    import pydicom
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    dataset.SOPInstanceUID = f"1.9.{size[0]}.{z + 1}"
    dataset.PatientID, dataset.PatientName, dataset.Modality = "P1", "Müller^Jörg", "CT"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.4", "1.2.5"
    dataset.StudyDate, dataset.FrameOfReferenceUID = "20240229", "1.2.6"
    dataset.InstanceNumber = z + 1
    if turn:
        dataset.ImageOrientationPatient = list(turn)
        dataset.ImagePositionPatient = [-12.5, 1 / 3, 2.5 * z]
        dataset.PixelSpacing, dataset.SliceThickness = [0.5, 0.75], "2.5"
    dataset.Rows, dataset.Columns = size
    dataset.NumberOfFrames, dataset.SamplesPerPixel = frames, 1
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PhotometricInterpretation = "MONOCHROME2"
    values = np.arange(frames * size[0] * size[1], dtype=np.uint8).tobytes()
    dataset.PixelData = values + b"\0" * (len(values) % 2)
    dataset["PixelData"].VR = "OB"
    for keyword, value in more.items():
        setattr(dataset, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture(scope="session")
def drawing(finished_run: Path, hospitals: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that draws masks, adopted at `west`; nobody may change it."""
    folder = tmp_path_factory.mktemp("drawing")
    plan = AdoptPlan(folds=2, epochs=1, min_steps=1, max_steps=1, head_epochs=1, bootstrap=20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYCLINIC_CACHE", str(folder / "cache"))
        patch.setenv("POLYCLINIC_DEVICE", "cpu")
        patch.setenv("POLYCLINIC_PRECISION", "float32")
        adopt(find_encoder(finished_run), hospitals / "sites" / "west", folder / "model", plan)
    return folder / "model"


def _tiny(hospitals: Path) -> Config:
    names = ("north", "south", "west")
    return Config(
        sites=tuple(SiteConfig(name, hospitals / "sites" / name) for name in names),
        corpus=hospitals / "corpus",
        name="tiny",
        seeds=(0,),
        methods=("universal", "local", "mim"),
        data=DataConfig(image_size=16, val_share=0.2, test_share=0.25),
        mim=MimConfig(epochs=2, batch_size=8),
        local=LocalConfig(stages=2, min_steps=1, max_steps=2, dense_head_epochs=1, batch_size=8),
        universal=UniversalConfig(distil_every=2, distil_epochs=1),
        evaluation=EvaluationConfig(fine_tune_epochs=1, fine_tune_max_steps=2, bootstrap=20),
    )
