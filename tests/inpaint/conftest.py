"""Made-up heads and a network of a few thousand weights."""

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image

from polyclinic.inpaint import network
from polyclinic.inpaint.cases import Case, head_extent, head_mask
from polyclinic.inpaint.components import CORE, ENHANCING, OEDEMA
from polyclinic.inpaint.intensity import Scaling
from polyclinic.inpaint.network import NetworkConfig
from polyclinic.inpaint.objectives import OBJECTIVES
from polyclinic.inpaint.painter import Painter
from polyclinic.seeding import derive

TINY = NetworkConfig((16, 16), (False, False), blocks=1, patch=2, crop=16, head_px=28)


@pytest.fixture(scope="session")
def tiny_config():
    """A network for crops of 16 px."""
    return TINY


@pytest.fixture
def tiny(monkeypatch):
    """The small painter, made tiny."""
    monkeypatch.setitem(network.SIZES, "small", TINY)
    return TINY


@pytest.fixture(scope="session")
def painter(tiny_config, awake):
    """A painter of that size that nothing has trained."""
    return Painter(awake(tiny_config), OBJECTIVES["flow"], digest="cd" * 32)


def make_case(number=0, side=32, slices=3, sequences=(1, 3), tumour=True):
    """A round head with a round tumour; bright tissue on air of exactly -1."""
    rng = np.random.default_rng(derive("case", number))
    rows, columns = np.mgrid[:side, :side] - side / 2
    head = np.hypot(rows, columns) < 0.44 * side
    components = np.zeros((slices, side, side), np.uint8)
    if tumour:
        distance = np.hypot(rows - rng.uniform(-5, 5), columns - rng.uniform(-5, 5))
        components[:, distance < 5] = OEDEMA
        components[:, distance < 3] = ENHANCING
        components[:, distance < 1.5] = CORE
    volumes = {}
    for sequence in sequences:
        tissue = 0.1 * sequence + 0.1 * rng.normal(size=components.shape) + 0.2 * components
        volumes[sequence] = np.where(head, tissue, -1.0).astype(np.float32)
    found = head_mask(list(volumes.values()))
    scalings = dict.fromkeys(volumes, Scaling(0.0, 100.0))
    return Case(f"case-{number}", volumes, components, found, scalings, head_extent(found))


@pytest.fixture
def cases():
    return [make_case(number) for number in range(4)]


@pytest.fixture(scope="session")
def heads():
    def make(slices=2, dtype=np.int16, high=1000, seed=0):
        """A round head in air, (Z, 32, 32)."""
        rng = np.random.default_rng(seed)
        rows, columns = np.mgrid[:32, :32] - 15.5
        tissue = high * rng.uniform(0.4, 1, (slices, 32, 32))
        return np.where(np.hypot(rows, columns) < 13, tissue, 0).astype(dtype)

    return make


@pytest.fixture(scope="session")
def write_png(heads):
    def make(path, high=200, dtype=np.uint8):
        Image.fromarray(heads(1, dtype, high)[0]).save(path)
        return path

    return make


@pytest.fixture(scope="session")
def write_nifti(heads):
    def make(path, seed=0):
        nibabel.save(nibabel.Nifti1Image(heads(seed=seed).T.copy(), np.diag([-1, -1, 2, 1])), path)
        return path

    return make


@pytest.fixture(scope="session")
def write_dicom(heads):
    def make(path, **elements):
        meta = pydicom.dataset.FileMetaDataset()
        meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        dataset = pydicom.Dataset()
        dataset.file_meta = meta
        dataset.SOPClassUID, dataset.SOPInstanceUID = pydicom.uid.MRImageStorage, "1.2.3"
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, "1.2.3"
        dataset.Rows = dataset.Columns = 32
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
        dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.PixelData = heads(1, np.uint16)[0].tobytes()
        dataset["PixelData"].VR = "OW"
        for keyword, value in elements.items():
            setattr(dataset, keyword, value)
        dataset.save_as(path, enforce_file_format=True)
        return path

    return make


@pytest.fixture
def case(tmp_path, write_nifti):
    folder = tmp_path / "case"
    folder.mkdir()
    for seed, name in enumerate(("t1n", "t2f")):
        write_nifti(folder / f"c-{name}.nii.gz", seed)
    return folder
