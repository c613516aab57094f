"""Writing an edited DICOM slice: a new instance that says that it is synthetic, and of what."""

import copy
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyclinic.inpaint.provenance import Provenance

_OUTDATED = (
    "SmallestImagePixelValue",
    "LargestImagePixelValue",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "DigitalSignaturesSequence",
    "MACParametersSequence",
    "IconImageSequence",
)
"""Elements that speak of the pixels before the edit."""
_WORDS = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}
"""Bytes a word of the value representations that pydicom keeps as bytes."""


def write_file(dataset: Any, cells: NDArray[Any], out: Path, provenance: Provenance) -> None:
    """Write `dataset` with the pixels `cells` (H, W) as explicit VR little endian.

    UIDs follow from the original's and from the edit: the same edit gives the same file.
    """
    from pydicom.uid import ExplicitVRLittleEndian

    edited = copy.deepcopy(dataset)
    if not dataset.file_meta.TransferSyntaxUID.is_little_endian:
        edited = _little_endian(edited)
    original = str(dataset.get("SOPInstanceUID", ""))
    edited.SOPInstanceUID = _uid(provenance, "instance", original)
    edited.SeriesInstanceUID = _uid(
        provenance, "series", str(dataset.get("SeriesInstanceUID", original))
    )
    edited.file_meta.MediaStorageSOPInstanceUID = edited.SOPInstanceUID
    edited.file_meta.MediaStorageSOPClassUID = dataset.get(
        "SOPClassUID", edited.file_meta.get("MediaStorageSOPClassUID")
    )
    edited.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for keyword in _OUTDATED:
        if keyword in edited:
            delattr(edited, keyword)
    _declare(edited, dataset, provenance)
    packed = cells.astype(cells.dtype.newbyteorder("<")).tobytes()
    edited.PixelData = packed + b"\0" * (len(packed) % 2)
    edited["PixelData"].VR = "OB" if cells.dtype.itemsize == 1 else "OW"
    edited["PixelData"].is_undefined_length = False
    edited.save_as(out, enforce_file_format=True)


def _little_endian(dataset: Any) -> Any:
    """A data set read as big endian, so that it can be written as little endian."""
    from pydicom.dataset import Dataset

    def turn(_: Any, element: Any) -> None:  # pydicom decodes the rest when it is looked at
        size = _WORDS.get(element.VR)
        if size and element.value:
            words = np.frombuffer(element.value, f">u{size}")
            element.value = words.astype(f"<u{size}").tobytes()

    dataset.walk(turn)
    turned = Dataset()
    turned.update({element.tag: element for element in dataset})
    turned.file_meta = dataset.file_meta
    return turned


def _declare(edited: Any, dataset: Any, provenance: Provenance) -> None:
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    edited.SyntheticData = "YES"
    edited.SeriesDescription = f"SYNTHETIC {dataset.get('SeriesDescription') or ''}".strip()[:64]
    kind = dataset.get("ImageType") or []
    kind = [kind] if isinstance(kind, str) else list(kind)
    edited.ImageType = ["DERIVED", "SECONDARY", *kind[2:]]
    edited.DerivationDescription = (
        f"{provenance.summary}. Not an acquisition, not for diagnosis. Painter "
        f"{provenance.painter}, {provenance.settings.steps} steps, mode "
        f"{provenance.settings.mode}, guidance {provenance.settings.guidance:g}"
    )[:1024]
    modifying = Dataset()  # PS3.16, CID 7005
    modifying.CodeValue = "109103"
    modifying.CodingSchemeDesignator = "DCM"
    modifying.CodeMeaning = "Modifying Equipment"
    equipment = Dataset()
    equipment.PurposeOfReferenceCodeSequence = Sequence([modifying])
    equipment.Manufacturer = "Polyclinic"
    equipment.ManufacturerModelName = "polyclinic inpaint"
    equipment.SoftwareVersions = provenance.version
    equipment.ContributionDescription = "painted a region with a diffusion model"
    edited.ContributingEquipmentSequence = Sequence(
        [*(dataset.get("ContributingEquipmentSequence") or []), equipment]
    )
    if "SOPInstanceUID" in dataset and "SOPClassUID" in dataset:
        source = Dataset()
        source.ReferencedSOPClassUID = dataset.SOPClassUID
        source.ReferencedSOPInstanceUID = dataset.SOPInstanceUID
        edited.SourceImageSequence = Sequence([source])


def _uid(provenance: Provenance, kind: str, original: str) -> str:
    """A UID made of a UUID, which needs no registered root (PS3.5, B.2)."""
    name = f"{provenance.identity} {kind} {original}"
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, name).int}"
