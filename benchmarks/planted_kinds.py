"""The twenty kinds of faults that `planted_faults.py` plants into copies of sites."""

import csv
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from polyclinic.data.dataset import Item, Scan
from polyclinic.data.files import is_image
from polyclinic.data.readers import scan_site

Plant = Callable[[Path, np.random.Generator, int], list[str]]
"""(site, rng, how many) -> what a finding has to name: keys of images, patients or classes."""
Pixels = NDArray[Any]

FILES = ("blood", "skin", "chest", "breast", "nuclei", "retina")
TABLES = ("skin", "chest")
MASKS = ("nuclei", "retina")
UPRIGHT = ("breast", "chest", "brain", "glioma")
"""Sites whose images have an upside: cells, lesions and nuclei lie as they fell."""


@dataclass(frozen=True)
class Kind:
    """A fault: the checks that are meant to find it, the sites that it suits, how to plant it."""

    checks: tuple[str, ...]
    sites: tuple[str, ...]
    plant: Plant


def _draw(site: Path, rng: np.random.Generator, count: int) -> tuple[Scan, list[Item]]:
    scan = scan_site(site)
    by_patient = {item.patient: item for item in scan.items}  # one image of each
    names = sorted(by_patient)
    chosen = rng.choice(len(names), min(count, len(names)), replace=False)
    return scan, [by_patient[names[number]] for number in chosen]


def _pixels(change: Callable[[Pixels], Pixels]) -> Plant:
    """A fault in the pixels of some images: of files, of arrays in an npz, or of whole cases."""

    def plant(site: Path, rng: np.random.Generator, count: int) -> list[str]:
        scan, items = _draw(site, rng, count)
        for item in items:
            if scan.format == "npz":
                _change_array(site / item.key.partition(":")[0], item.key, change)
            elif scan.format == "brats":
                for path in sorted((site / item.patient).glob("*.nii.gz")):
                    _change_volume(path, change)
            else:
                _save(change(np.asarray(Image.open(site / item.key))), site / item.key)
        return [f"{i.patient}#" if scan.format == "brats" else i.key for i in items]

    return plant


def _save(pixels: Pixels, path: Path) -> None:
    options = {"quality": 95} if path.suffix.lower() in (".jpg", ".jpeg") else {}
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, **options)


def _change_array(path: Path, key: str, change: Callable[[Pixels], Pixels]) -> None:
    name, index = key.partition(":")[2].split("#")
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays[name][int(index)] = change(arrays[name][int(index)])
    np.savez(path, **arrays)


def _change_volume(path: Path, change: Callable[[Pixels], Pixels]) -> None:
    import nibabel

    volume: Any = nibabel.load(path)
    changed = np.ascontiguousarray(change(np.asanyarray(volume.dataobj)))
    nibabel.save(nibabel.Nifti1Image(changed, volume.affine, volume.header), path)


def _files(change: Callable[[Path, np.random.Generator], None]) -> Plant:
    """A fault in some image files themselves."""

    def plant(site: Path, rng: np.random.Generator, count: int) -> list[str]:
        _, items = _draw(site, rng, count)
        for item in items:
            change(site / item.key, rng)
        return [item.key for item in items]

    return plant


def _truncate(path: Path, rng: np.random.Generator) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * rng.uniform(0.2, 0.8))])


def _rename_format(path: Path, _: np.random.Generator) -> None:
    """The same name, the content of another format."""
    image = Image.open(path)
    image.load()
    other = "PNG" if path.suffix.lower() in (".jpg", ".jpeg") else "JPEG"
    image.save(path, format=other)


def _copies(alter: bool, other_split: bool = False) -> Plant:
    """Copies of images under other names: the same bytes, or altered a little."""

    def plant(site: Path, rng: np.random.Generator, count: int) -> list[str]:
        scan, items = _draw(site, rng, count)
        names = []
        for item in items:
            source = site / item.key
            target = source.with_name(f"zz-{source.stem}-copy{source.suffix}")
            if alter:
                image = Image.open(source)
                curve = [min(255, int(1.08 * v + 4)) for v in range(256)]
                brighter = image.point(curve * len(image.getbands()))
                brighter.save(target, quality=85)
            else:
                shutil.copyfile(source, target)
            names.append(target.relative_to(site).as_posix())
            if scan.format == "manifest":
                _add_row(site, item.key, names[-1], "val" if other_split else None)
            for folder in ("masks", "labels"):
                for mask in (site / folder).glob(f"{source.stem}.*"):
                    shutil.copyfile(mask, mask.with_name(target.stem + mask.suffix))
        return names

    return plant


def read_table(site: Path) -> list[dict[str, str]]:
    """The rows of a site's labels.csv."""
    with (site / "labels.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_table(site: Path, rows: list[dict[str, str]]) -> None:
    """Write a site's labels.csv anew."""
    with (site / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]), restval="")
        table.writeheader()
        table.writerows(rows)


def _add_row(site: Path, key: str, new: str, split: str | None) -> None:
    rows = read_table(site)
    row = next(row for row in rows if row["path"] == key)
    rows.append(row | {"path": new, "patient_id": f"copy-{row['patient_id']}"})
    if split:
        rows = [r | {"split": split if r["path"] == new else r.get("split", "train")} for r in rows]
    write_table(site, rows)


def _split_patients(site: Path, rng: np.random.Generator, count: int) -> list[str]:
    """Given splits, and some patients with images on both sides."""
    rows = read_table(site)
    images: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        row["split"] = ("train", "train", "train", "val", "test")[hash_of(row["patient_id"]) % 5]
        images.setdefault(row["patient_id"], []).append(row)
    several = sorted(patient for patient, mine in images.items() if len(mine) > 1)
    chosen = [several[n] for n in rng.choice(len(several), min(count, len(several)), replace=False)]
    for patient in chosen:
        one = images[patient][0]
        one["split"] = "test" if one["split"] == "train" else "train"
    write_table(site, rows)
    return [f"patient {patient} " for patient in chosen]


def hash_of(text: str) -> int:
    """The same number for the same text in every process."""
    return sum(map(ord, text))


def _labels(change: Callable[[str], str]) -> Plant:
    def plant(site: Path, rng: np.random.Generator, count: int) -> list[str]:
        rows = read_table(site)
        lines = sorted(int(n) for n in rng.choice(len(rows), count, replace=False))
        for number in lines:
            rows[number]["label"] = change(rows[number]["label"])
        write_table(site, rows)
        slips = sorted({rows[number]["label"] for number in lines} - {""})
        return [f"{name!r}" for name in slips] or [f"line {number + 2}" for number in lines]

    return plant


def _keep_classes(only: int, left: int) -> Plant:
    """All classes but `only` are removed, or one class is left with `left` images."""

    def plant(site: Path, rng: np.random.Generator, _: int) -> list[str]:
        scan = scan_site(site)
        chosen = int(rng.integers(len(scan.classes)))
        mine = [item for item in scan.items if item.target == chosen]
        others = [item for item in scan.items if item.target != chosen]
        gone = {item.key for item in (others if only else mine[left:])}
        for key in gone:
            (site / key).unlink()
        if scan.format == "manifest":
            write_table(site, [row for row in read_table(site) if row["path"] not in gone])
        else:
            for folder in site.iterdir():
                if only and folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()
        name = scan.classes[chosen]
        return [name] if only else [f"class {name!r} has only"]

    return plant


def _enlarge(pixels: Pixels) -> Pixels:
    image = Image.fromarray(pixels)
    return np.asarray(image.resize((image.width * 3 // 2, image.height * 5 // 4)))


def _text(pixels: Pixels) -> Pixels:
    image = Image.fromarray(pixels)
    shade = 0 if pixels[:14].mean() > 127 else 255  # as viewers do, so that it can be read
    colour = shade if image.mode == "L" else (shade,) * 3
    ImageDraw.Draw(image).text((3, 2), "DOE JANE", fill=colour)
    return np.asarray(image)


def _darken(pixels: Pixels) -> Pixels:
    return (pixels * 0.15).astype(pixels.dtype)


def _deepen(site: Path, rng: np.random.Generator, count: int) -> list[str]:
    """16 bits in the file, under the same name."""
    _, items = _draw(site, rng, count)
    for item in items:
        grey = np.asarray(Image.open(site / item.key).convert("L")).astype(np.uint16) * 257
        Image.fromarray(grey).save(site / item.key, format="PNG")
    return [item.key for item in items]


def _masks(change: Callable[[Pixels], Pixels]) -> Plant:
    def plant(site: Path, rng: np.random.Generator, count: int) -> list[str]:
        _, items = _draw(site, rng, count)
        folder = "masks" if (site / "masks").is_dir() else "labels"
        for item in items:
            path = next((site / folder).glob(f"{Path(item.key).stem}.*"))
            Image.fromarray(change(np.asarray(Image.open(path)))).save(path)
        return [item.key for item in items]

    return plant


def _add_dicom(site: Path, rng: np.random.Generator, count: int) -> list[str]:
    """Exports with the patient's name, forgotten beside the images."""
    import pydicom
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    parent = next(path for path in sorted(site.rglob("*")) if is_image(path.name)).parent
    names = []
    for number in range(count):
        header = pydicom.Dataset()
        header.PatientName, header.PatientID = "Doe^Jane", f"{int(rng.integers(10**6)):06}"
        header.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
        header.SOPInstanceUID = generate_uid(entropy_srcs=[site.name, str(number)])
        header.file_meta = FileMetaDataset()
        header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = parent / f"export{number}.dcm"
        header.save_as(path, enforce_file_format=True)
        names.append(path.relative_to(site).as_posix())
    return names


KINDS: dict[str, Kind] = {
    "truncated file": Kind(("reading",), FILES, _files(_truncate)),
    "wrong extension": Kind(("extension",), FILES, _files(_rename_format)),
    "blank image": Kind(("blank", "reading"), (*FILES, "brain"), _pixels(np.zeros_like)),
    "exact duplicate": Kind(("duplicate",), FILES, _copies(alter=False)),
    "near duplicate": Kind(("near-duplicate",), FILES, _copies(alter=True)),
    "image in two splits": Kind(("duplicate",), TABLES, _copies(alter=False, other_split=True)),
    "patient in two splits": Kind(("split",), TABLES, _split_patients),
    "missing label": Kind(("reading",), TABLES, _labels(lambda _: "")),
    "misspelt label": Kind(("label",), TABLES, _labels(lambda label: label + "l")),
    "single class": Kind(("split", "reading"), ("blood", "skin", "chest", "breast"),
                         _keep_classes(only=1, left=0)),
    "tiny class": Kind(("split",), ("blood", "skin", "chest", "breast"),
                       _keep_classes(only=0, left=4)),
    "other size": Kind(("format",), ("blood", "skin", "chest", "breast"), _pixels(_enlarge)),
    "other bit depth": Kind(("format",), ("blood", "skin", "chest", "breast"), _deepen),
    "inverted": Kind(("orientation",), (*UPRIGHT, "blood", "skin"), _pixels(lambda p: p.max() - p)),
    "rotated by 90 degrees": Kind(("orientation",), UPRIGHT, _pixels(np.rot90)),
    "mask of another size": Kind(("reading",), MASKS, _masks(lambda m: m[:-3])),
    "empty mask": Kind(("mask",), MASKS, _masks(np.zeros_like)),
    "DICOM with a name": Kind(("identity",), FILES, _add_dicom),
    "burned-in text": Kind(("text",), (*FILES, "brain"), _pixels(_text)),
    "unusual intensity": Kind(("intensity",), (*FILES, "brain"), _pixels(_darken)),
}  # fmt: skip
