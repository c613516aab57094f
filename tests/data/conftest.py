"""Small DICOM files of every kind, made element by element."""

import zlib

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian


@pytest.fixture
def write_dicom():
    def write(path, pixels, *, syntax=ExplicitVRLittleEndian, frames=None, **elements):
        """`pixels` (H, W), (H, W, 3) or with `frames` (F, ...); None leaves an element out."""
        shape = pixels.shape[1:] if frames else pixels.shape
        dataset = pydicom.Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = syntax
        values = {
            "SOPClassUID": CTImageStorage,
            "SOPInstanceUID": f"1.2.3.{zlib.crc32(path.name.encode())}",
            "StudyInstanceUID": "1.2.4",
            "SeriesInstanceUID": "1.2.5",
            "PatientID": "P1",
            "Modality": "CT",
            "Rows": shape[0],
            "Columns": shape[1],
            "NumberOfFrames": frames,
            "SamplesPerPixel": 3 if len(shape) == 3 else 1,
            "PlanarConfiguration": 0 if len(shape) == 3 else None,
            "PhotometricInterpretation": "RGB" if len(shape) == 3 else "MONOCHROME2",
            "BitsAllocated": pixels.dtype.itemsize * 8,
            "BitsStored": pixels.dtype.itemsize * 8,
            "PixelRepresentation": int(pixels.dtype.kind == "i"),
            **elements,
        }
        if values["BitsStored"] is not None:
            values.setdefault("HighBit", values["BitsStored"] - 1)
        for keyword, value in values.items():
            if value is not None:
                setattr(dataset, keyword, value)
        dataset.file_meta.MediaStorageSOPClassUID = values["SOPClassUID"]
        dataset.file_meta.MediaStorageSOPInstanceUID = values["SOPInstanceUID"]
        packed = pixels.tobytes()
        dataset.PixelData = packed + b"\0" * (len(packed) % 2)
        dataset["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"
        path.parent.mkdir(parents=True, exist_ok=True)
        dataset.save_as(path, enforce_file_format=True)
        return path

    return write


@pytest.fixture
def ramp():
    """(rows, columns, dtype) -> values that rise along rows."""

    def make(rows=4, columns=6, dtype="u1"):
        return np.arange(rows * columns).reshape(rows, columns).astype(dtype)

    return make
