"""Small valid sites in every format that a reader knows, as `fuzz_readers.py` damages them.

A site is its files by their relative paths. All are made on the fly, by a seed; where real DICOM
files are at hand, some of them stand in class folders.
"""

import io
import json
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from polyclinic.data.phantoms import layouts
from polyclinic.data.phantoms.samples import Case, Labelled, Masked

Site = dict[str, bytes]
Make = Callable[[Path, np.random.Generator], None]

SIDE = 16  # px
DEPTH = 12  # slices of a volume
SYNTAXES = {
    "": "1.2.840.10008.1.2.1",
    "big": "1.2.840.10008.1.2.2",
    "implicit": "1.2.840.10008.1.2",
    "deflated": "1.2.840.10008.1.2.1.99",
    "rle": "1.2.840.10008.1.2.5",
    "jpeg2000": "1.2.840.10008.1.2.4.90",
}


def sites(seed: int) -> dict[str, Site]:
    """Every made-up site, by the name of the reader that it is for and a word about it."""
    rng = np.random.default_rng(seed)
    found = {}
    for name, make in MAKERS.items():
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder), rng)
            found[name] = read_files(Path(folder))
    return found


def read_files(folder: Path) -> Site:
    """All files below `folder`."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def real_dicom(folder: Path) -> Site:
    """The DICOM files of a folder, as two classes of a site; none where there is no such folder."""
    paths = sorted(folder.glob("*.dcm")) if folder.is_dir() else []
    return {f"{'ab'[n % 2]}/{n:03}.dcm": path.read_bytes() for n, path in enumerate(paths)}


def _pixels(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(0, 256, shape or (SIDE, SIDE), np.uint8)


def _labelled(rng: np.random.Generator, colour: bool = False) -> list[Labelled]:
    shape = (SIDE, SIDE, 3) if colour else (SIDE, SIDE)
    return [
        Labelled(_pixels(rng, *shape), label, patient=f"p{n}")
        for n, label in enumerate(("cold", "warm") * 3)
    ]


def _class_folders(folder: Path, rng: np.random.Generator) -> None:
    layouts.write_class_folders(folder, _labelled(rng), ".png")
    layouts.write_class_folders(folder, _labelled(rng, True), ".jpg")
    for end, options in (
        ("tif", {}), ("bmp", {}), ("webp", {"lossless": True}), ("gif.png", {"format": "GIF"}),
    ):  # fmt: skip
        Image.fromarray(_pixels(rng)).save(folder / "cold" / f"x.{end}", **options)
    Image.fromarray(_pixels(rng).astype(np.uint16) * 200).save(folder / "warm" / "deep.png")
    Image.fromarray(_pixels(rng)).save(folder / "warm" / "lzw.tiff", compression="tiff_lzw")


def _split_folders(folder: Path, rng: np.random.Generator) -> None:
    for split in ("train", "val", "test"):
        layouts.write_class_folders(folder / split, _labelled(rng)[:4], ".png")


def _manifest(folder: Path, rng: np.random.Generator) -> None:
    layouts.write_manifest(folder, _labelled(rng), ".png")


def _manifest_of(rows: Callable[[int], str], head: str) -> Make:
    def make(folder: Path, rng: np.random.Generator) -> None:
        layouts.write_manifest(folder, _labelled(rng), ".jpg")
        lines = [head, *(f"images/{n:05}.jpg{rows(n)}" for n in range(6))]
        (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")

    return make


def _npz(folder: Path, rng: np.random.Generator) -> None:
    layouts.write_medmnist(folder / "site.npz", _labelled(rng), ("cold", "warm"))


def _npz_named(folder: Path, rng: np.random.Generator) -> None:
    np.savez(
        folder / "site.npz",
        images=_pixels(rng, 6, SIDE, SIDE, 3).astype(np.uint16) * 100,
        labels=rng.integers(0, 2, (6, 3)),
        class_names=np.array(["a", "b", "c"]),
    )


def _image_masks(folder: Path, rng: np.random.Generator) -> None:
    masks = [Masked(_pixels(rng), (_pixels(rng) > 127).astype(np.uint8)) for _ in range(4)]
    layouts.write_mask_pairs(folder, masks)


def _instances(folder: Path, rng: np.random.Generator) -> None:
    many = [Masked(_pixels(rng, SIDE, SIDE, 3), _pixels(rng).astype(np.uint16)) for _ in range(4)]
    layouts.write_mask_pairs(folder, many)


def _classes(folder: Path, rng: np.random.Generator) -> None:
    layouts.write_mask_pairs(folder, [Masked(_pixels(rng), _pixels(rng) % 3) for _ in range(3)])
    for path in (folder / "masks").iterdir():
        Image.fromarray(_pixels(rng) % 3).save(path)
    (folder / "classes.txt").write_text("background\ncell\ndebris\n", encoding="utf-8")


def _brats(folder: Path, rng: np.random.Generator) -> None:
    cases = []
    for number in range(2):
        shape = (SIDE, SIDE, DEPTH)
        sequences = {
            name: rng.integers(0, 900, shape).astype(np.int16) for name in ("t1n", "t1c", "t2f")
        }
        parts = rng.integers(0, 4, shape).astype(np.uint8)
        cases.append(Case(f"P{number}", "h", sequences, parts, (1.0, 1.0, 2.0)))
    layouts.write_cases(folder, cases)


def _save_volume(path: Path, volume: np.ndarray) -> None:
    import nibabel

    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([-1.0, -1.0, 2.0, 1.0])), path)


def _msd(channels: int | None) -> Make:
    def make(folder: Path, rng: np.random.Generator) -> None:
        shape = (SIDE, SIDE, DEPTH)
        for case in ("c1", "c2"):
            _save_volume(folder / "labelsTr" / f"{case}.nii.gz", _pixels(rng, *shape) // 100)
            if channels:
                whole = rng.integers(0, 900, (*shape, channels)).astype(np.int16)
                _save_volume(folder / "imagesTr" / f"{case}.nii.gz", whole)
            else:
                for number in range(2):
                    path = folder / "imagesTr" / f"{case}_{number:04}.nii"
                    _save_volume(path, rng.normal(0, 300, shape).astype(np.float32))
        names = {str(n): f"m{n}" for n in range(channels or 2)}
        table: dict[str, Any] = {"channel_names": names, "file_ending": ".nii"}
        table["labels"] = {"background": 0, "liver": 1, "cyst": 2}
        if channels:
            table = {"modality": names, "labels": {"0": "background", "1": "liver", "2": "cyst"}}
        (folder / "dataset.json").write_text(json.dumps(table), encoding="utf-8")

    return make


def _bids(folder: Path, rng: np.random.Generator) -> None:
    for number in range(1, 5):
        path = folder / f"sub-{number}" / "anat" / f"sub-{number}_T1w.nii.gz"
        _save_volume(path, rng.integers(1, 900, (SIDE, SIDE, 24)).astype(np.int16))
    rows = [f"sub-{n}\t{40 + n}\t{'ab'[n % 2]}" for n in range(1, 5)]
    table = "\n".join(["participant_id\tage\tgroup", *rows])
    (folder / "participants.tsv").write_text(table + "\n", encoding="utf-8")


def _dataset(name: str, syntax: str, values: np.ndarray, **elements: Any) -> Any:
    import pydicom
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID

    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    instance = f"1.2.3.{zlib.crc32(name.encode())}"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = instance
    dataset.PatientID, dataset.Modality = f"P{zlib.crc32(name.encode()) % 7}", "CT"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.4", "1.2.5"
    dataset.Rows, dataset.Columns = values.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = values.dtype.itemsize * 8
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, 0
    dataset.WindowCenter, dataset.WindowWidth = 300, 600
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dataset.PixelData = values.tobytes()
    dataset["PixelData"].VR = "OW"
    return dataset


def _dicom(folder: Path, rng: np.random.Generator) -> None:
    for kind in ("a", "b"):
        (folder / kind).mkdir(parents=True)
        for end, syntax in SYNTAXES.items():
            path = folder / kind / f"{end or 'plain'}.dcm"
            order = ">u2" if end == "big" else "<u2"
            side = 2 * SIDE if end == "jpeg2000" else SIDE  # its encoder wants 32 px
            values = rng.integers(0, 4000, (side, side)).astype(order)
            native = SYNTAXES["" if end in ("rle", "jpeg2000") else end]
            dataset = _dataset(str(path), native, values)
            if native != syntax:
                dataset.compress(syntax)
            dataset.save_as(path, enforce_file_format=True)
    frames = rng.integers(0, 4000, (3, SIDE, SIDE)).astype("<u2")
    several = _dataset("several", SYNTAXES[""], frames, NumberOfFrames=3)
    several.save_as(folder / "a" / "frames", enforce_file_format=True)
    listed = [_item(ReferencedFileID=["A", name]) for name in ("PLAIN", "LOST")]
    disc = _dataset("disc", SYNTAXES[""], frames, DirectoryRecordSequence=listed)
    disc.SOPClassUID = disc.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    del disc.PixelData, disc.Rows, disc.Columns
    disc.save_as(folder / "DICOMDIR", enforce_file_format=True)


def _item(**elements: Any) -> Any:
    import pydicom

    dataset = pydicom.Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def _dicom_seg(folder: Path, rng: np.random.Generator) -> None:
    turn = [1, 0, 0, 0, 1, 0]
    for z in range(4):
        path = folder / "ct" / f"{z}.dcm"
        path.parent.mkdir(exist_ok=True)
        values = rng.integers(0, 4000, (SIDE, SIDE)).astype("<u2")
        place = {"ImagePositionPatient": [0, 0, 2 * z], "ImageOrientationPatient": turn}
        _dataset(f"ct{z}", SYNTAXES[""], values, SOPInstanceUID=f"1.9.{z}", **place).save_as(
            path, enforce_file_format=True
        )
    groups = [
        _item(
            SegmentIdentificationSequence=[_item(ReferencedSegmentNumber=1 + z % 2)],
            PlanePositionSequence=[_item(ImagePositionPatient=[0, 0, 2 * z])],
            DerivationImageSequence=[
                _item(SourceImageSequence=[_item(ReferencedSOPInstanceUID=f"1.9.{z}")])
            ],
        )
        for z in range(4)
    ]
    packed = np.packbits(rng.integers(0, 2, 4 * SIDE * SIDE, np.uint8), bitorder="little")
    masks = _dataset(
        "seg",
        SYNTAXES[""],
        packed.reshape(4, SIDE, SIDE // 8),
        SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4",
        Modality="SEG",
        SegmentationType="BINARY",
        SeriesInstanceUID="1.8.2",
        SegmentSequence=[_item(SegmentNumber=n, SegmentLabel=f"s{n}") for n in (1, 2)],
        ReferencedSeriesSequence=[_item(SeriesInstanceUID="1.2.5")],
        SharedFunctionalGroupsSequence=[
            _item(PlaneOrientationSequence=[_item(ImageOrientationPatient=turn)])
        ],
        PerFrameFunctionalGroupsSequence=groups,
        NumberOfFrames=4,
        Columns=SIDE,
        BitsAllocated=1,
        BitsStored=1,
        HighBit=0,
    )
    masks.save_as(folder / "masks.dcm", enforce_file_format=True)


def _corpus(folder: Path, rng: np.random.Generator) -> None:
    layouts.write_class_folders(folder / "deep" / "er", _labelled(rng), ".png")
    file = io.BytesIO()
    np.savez_compressed(file, train_images=_pixels(rng, 5, SIDE, SIDE))
    (folder / "more.npz").write_bytes(file.getvalue())


MAKERS: dict[str, Make] = {
    "class-folders": _class_folders,
    "class-folders split": _split_folders,
    "class-folders dicom": _dicom,
    "manifest": _manifest,
    "manifest multi": _manifest_of(
        lambda n: f";p{n};{'ab'[n % 2]}|c;train", "path;patient_id;label;split"
    ),
    "manifest numbers": _manifest_of(lambda n: f"\t{n * 0.5}", "path\tlabel"),
    "npz": _npz,
    "npz multi": _npz_named,
    "image-masks": _image_masks,
    "image-masks instances": _instances,
    "image-masks classes": _classes,
    "brats": _brats,
    "msd nnunet": _msd(None),
    "msd decathlon": _msd(2),
    "bids": _bids,
    "dicom-seg": _dicom_seg,
    "corpus": _corpus,
}  # fmt: skip
