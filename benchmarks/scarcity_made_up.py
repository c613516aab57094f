"""Made-up heads of three hospitals, and painters that were never trained, for `--smoke`."""

import json
from pathlib import Path

import numpy as np

from polyclinic.inpaint.components import CORE, ENHANCING, OEDEMA
from polyclinic.inpaint.network import NetworkConfig, build_network
from polyclinic.inpaint.objectives import OBJECTIVES
from polyclinic.inpaint.painter import Painter, save_painter
from polyclinic.seeding import derive

HOSPITALS = {"AA": 5, "BB": 5, "CC": 4}
SIDE, SLICES = 32, 6
NETWORK = NetworkConfig((16, 16), (False, False), blocks=1, patch=2, crop=16, head_px=28)


def write_patients(folder: Path) -> list[str]:
    """Folders as in BraTS, of FLAIR, T1 after contrast and labels; returns the patients' names."""
    import nibabel

    names = [f"TCGA_{name}_{n:04d}" for name, count in HOSPITALS.items() for n in range(count)]
    for name in names:
        rng = np.random.default_rng(derive("made up", name))
        rows, columns = np.mgrid[:SIDE, :SIDE] - SIDE / 2
        distance = np.hypot(rows - rng.uniform(-4, 4), columns - rng.uniform(-4, 4))
        labels = np.zeros((SIDE, SIDE, SLICES), np.uint8)
        for radius, label in ((5.0, OEDEMA), (3.0, ENHANCING), (1.5, CORE)):
            labels[distance < radius, 2:4] = label
        head = (np.hypot(rows, columns) < 0.44 * SIDE)[:, :, None]
        own = folder / name
        own.mkdir(parents=True)
        for kind, brighter in (("t2f", 60), ("t1c", 30)):
            tissue = 200 + 20 * rng.normal(size=labels.shape) + brighter * labels
            image = nibabel.Nifti1Image(np.where(head, tissue, 0).astype(np.float32), np.eye(4))
            nibabel.save(image, own / f"{name}-{kind}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), own / f"{name}-seg.nii.gz")
    return names


def write_painter(run: Path, names: list[str], left_out: str) -> None:
    """A run directory as of a training on the patients of the other hospitals."""
    run.mkdir(parents=True)
    others = [name for name in names if f"_{left_out}_" not in name]
    splits = {"train": others[:-4], "val": others[-4:-2], "test": others[-2:]}
    (run / "splits.json").write_text(json.dumps(splits), encoding="utf-8")
    network = build_network(NETWORK, seed=0)
    card = {"patients": {name: len(keys) for name, keys in splits.items()}}
    save_painter(Painter(network, OBJECTIVES["flow"], "", card), run / "painter.safetensors")
