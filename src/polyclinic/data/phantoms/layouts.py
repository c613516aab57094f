"""Write phantoms in the formats that real sites use. Same samples, same bytes.

No file carries metadata beyond what its format requires: a label stands only where the format
keeps labels.
"""

import csv
import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from polyclinic.data.phantoms.samples import Case, Labelled, Masked, Pixels


def save_image(path: Path, image: Pixels) -> None:
    """Write PNG or JPEG, by the suffix; JPEG at a quality that keeps small structures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(image)
    if path.suffix == ".jpg":
        picture.save(path, quality=94)
    else:
        picture.save(path, compress_level=3)


def write_class_folders(folder: Path, samples: Sequence[Labelled], suffix: str) -> None:
    """`folder/<class>/<number><suffix>`."""
    for number, sample in enumerate(samples):
        save_image(folder / sample.label / f"{number:05d}{suffix}", sample.image)


def write_manifest(folder: Path, samples: Sequence[Labelled], suffix: str) -> None:
    """`folder/labels.csv` (path, label, patient_id, and site where devices have names)."""
    has_site = any(sample.device for sample in samples)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["path", "label", "patient_id"] + ["site"] * has_site)
        for number, sample in enumerate(samples):
            path = f"images/{number:05d}{suffix}"
            save_image(folder / path, sample.image)
            rows.writerow([path, sample.label, sample.patient] + [sample.device] * has_site)


def write_medmnist(file: Path, samples: Sequence[Labelled], classes: Sequence[str]) -> None:
    """MedMNIST-style npz: `{train,val,test}_{images,labels}`; 70, 10 and 20 % of the samples.

    Images are uint8 (N, S, S) or (N, S, S, 3), labels uint8 (N, 1): the class's place in `classes`.
    """
    images = np.stack([sample.image for sample in samples])
    labels = np.array([[classes.index(s.label)] for s in samples], dtype=np.uint8)
    first, second = round(len(samples) * 0.7), round(len(samples) * 0.8)
    arrays = {}
    for name, part in (
        ("train", slice(first)),
        ("val", slice(first, second)),
        ("test", slice(second, None)),
    ):
        arrays[f"{name}_images"], arrays[f"{name}_labels"] = images[part], labels[part]
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(file, allow_pickle=False, **arrays)


def write_mask_pairs(folder: Path, samples: Sequence[Masked]) -> None:
    """`images/*.png` with `masks/*.png` (0/255), or with `labels/*.png` (16-bit instance ids)."""
    for number, sample in enumerate(samples):
        save_image(folder / "images" / f"{number:04d}.png", sample.image)
        if sample.mask.dtype == np.uint16:
            path, mask = folder / "labels" / f"{number:04d}.png", sample.mask
        else:
            path, mask = folder / "masks" / f"{number:04d}.png", sample.mask * np.uint8(255)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)


def write_cases(folder: Path, cases: Sequence[Case]) -> None:
    """BraTS-like `NAME/NAME-{sequence}.nii.gz` and `NAME/NAME-seg.nii.gz`, centred at 0 mm."""
    import nibabel as nib

    for case in cases:
        affine = np.diag([*case.spacing, 1.0])
        affine[:3, 3] = -(np.array(case.parts.shape) - 1) / 2 * case.spacing
        (folder / case.name).mkdir(parents=True, exist_ok=True)
        for suffix, volume in {**case.sequences, "seg": case.parts}.items():
            image = nib.Nifti1Image(volume, affine)
            image.header.set_xyzt_units("mm")
            path = folder / case.name / f"{case.name}-{suffix}.nii.gz"
            # mtime=0: a clock in the header would make every run's file another one
            path.write_bytes(gzip.compress(image.to_bytes(), compresslevel=5, mtime=0))
