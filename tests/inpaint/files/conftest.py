"""Small heads in every format, and a record to write beside them."""

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from polyclinic.inpaint.painting import Settings
from polyclinic.inpaint.provenance import Provenance


@pytest.fixture
def record():
    return Provenance(
        input="scan",
        format="png",
        sequence=None,
        inputs={"scan": "0" * 64},
        painter="ab" * 32,
        asked=(),
        shape=(1, 2, 2),
        fill=(-1, 4),
        settings=Settings(),
        precision="float32",
        outputs={"t1n": "1" * 64},
        pixels={"oedema": 3},
        warnings=(),
        machine={},
    )


def numbers(shape, dtype, seed=0):
    """Values over much of what the type holds, with zeros among them."""
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return rng.normal(0, 1e3, shape).astype(dtype)
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    return (rng.uniform(0.2, 0.8, shape) * (float(high) - low) + low).astype(dtype)


@pytest.fixture
def write_nifti():
    def write(path, volume, affine=None, slope=None, intercept=0.0, version=1):
        kind = nibabel.Nifti1Image if version == 1 else nibabel.Nifti2Image
        image = kind(volume, np.eye(4) if affine is None else affine, dtype=volume.dtype)
        image.header["descrip"] = b"a scanner"
        nibabel.save(image, path)
        if slope is not None:  # nibabel would scale the numbers when it saves
            content = bytearray(path.read_bytes())
            content[112:120] = np.array([slope, intercept], "<f4").tobytes()
            path.write_bytes(content)
        return path

    return write


@pytest.fixture
def write_dicom():
    def write(path, pixels, position=0.0, **elements):
        """`pixels` are stored cells; elements override the header's."""
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = elements.pop("syntax", ExplicitVRLittleEndian)
        meta.MediaStorageSOPClassUID = MRImageStorage
        meta.MediaStorageSOPInstanceUID = f"1.2.3.{round(position * 10) + 1000}"
        dataset = pydicom.Dataset()
        dataset.file_meta = meta
        values = {
            "SOPClassUID": MRImageStorage,
            "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
            "StudyInstanceUID": "1.2.3.1",
            "SeriesInstanceUID": "1.2.3.2",
            "FrameOfReferenceUID": "1.2.3.4",
            "ImageType": ["ORIGINAL", "PRIMARY", "M"],
            "PatientName": "Someone",
            "Modality": "MR",
            "Rows": pixels.shape[0],
            "Columns": pixels.shape[1],
            "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2",
            "BitsAllocated": pixels.dtype.itemsize * 8,
            "BitsStored": pixels.dtype.itemsize * 8,
            "PixelRepresentation": int(pixels.dtype.kind == "i"),
            "ImagePositionPatient": [10.0, -20.0, position],
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "PixelSpacing": [2.0, 1.5],
            "SliceThickness": 3.0,
            **elements,
        }
        values.setdefault("HighBit", values["BitsStored"] - 1)
        for keyword, value in values.items():
            if value is not None:
                setattr(dataset, keyword, value)
        packed = pixels.tobytes()
        dataset.PixelData = packed + b"\0" * (len(packed) % 2)
        dataset["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"
        dataset.save_as(path, enforce_file_format=True)
        return path

    return write


@pytest.fixture
def make_numbers():
    return numbers
