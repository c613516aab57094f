"""Phantom chest films: clear lungs, bacterial (focal) or viral (diffuse) pneumonia.

Several films of one patient share the anatomy and differ in exposure, turn and noise.
"""

from pathlib import Path

import numpy as np
from scipy import ndimage

from polyclinic.data.phantoms.layouts import write_manifest
from polyclinic.data.phantoms.samples import Float, Labelled, Pixels, assign_labels, streams
from polyclinic.data.phantoms.shapes import blob, edge, ellipse, grid
from polyclinic.data.phantoms.texture import as_pixels, fractal_noise, over, ridges, smooth_noise

CLASSES = ("normal", "bacteria", "virus")


def paint(patient: np.random.Generator, film: np.random.Generator, label: str, size: int) -> Pixels:
    """One film (S, S): `patient` draws anatomy and disease, `film` how it was exposed."""
    y, x = grid(size)
    image = np.full((size, size), 0.03)
    width = patient.uniform(0.78, 0.95)
    shoulder = edge(width + 0.25 * np.clip(-y - 0.45, 0, 1) - np.abs(x), 0.1)
    image = over(image, 0.60, shoulder * edge(y + patient.uniform(0.9, 1.05), 0.25))
    image = over(image, 0.66, ellipse(size, (0, -1.05), (0.24, 0.42), 0, 0.15))

    lungs = _lungs(patient, size, width)
    image = over(image, patient.uniform(0.16, 0.26), lungs * 0.92)
    ribs = _ribs(patient, size, width)
    image = image + ribs * shoulder * (0.06 + 0.09 * lungs)
    markings = ridges(smooth_noise(patient, (size, size), 1.2), 0.3)
    hilum = np.exp(-((np.abs(x) - 0.2) ** 2 + (y + 0.05) ** 2) / 0.12)
    image = image + lungs * markings * (0.03 + 0.14 * hilum)
    image = _disease(patient, image, lungs, label)

    image = image + 0.16 * np.exp(-((x / 0.09) ** 2)) * (1 + 0.25 * np.sin(y * 28)) * shoulder
    heart = (patient.uniform(0.08, 0.16), patient.uniform(0.28, 0.40))
    reach = (patient.uniform(0.36, 0.48), patient.uniform(0.26, 0.34))
    image = over(
        image, 0.72, blob(patient, size, heart, reach, 0.7, rough=0.12, softness=0.14) * 0.7
    )
    image = over(image, 0.72, ellipse(size, (0, -0.3), (0.13, 0.5), 0, 0.12) * 0.8)
    return _expose(film, image)


def _lungs(rng: np.random.Generator, size: int, width: float) -> Float:
    y, x = grid(size)
    lungs = np.zeros((size, size))
    dome = rng.uniform(0.45, 0.7)
    for side in (-1, 1):
        half = 0.42 * width * rng.uniform(0.9, 1.08)
        centre = (side * (0.10 + half), rng.uniform(-0.02, 0.06))
        lung = blob(rng, size, centre, (half, 0.86), -side * 0.12, rough=0.03, softness=0.08)
        diaphragm = dome + (0.08 if side > 0 else 0.0) + 1.2 * (x - centre[0]) ** 2
        lungs = np.maximum(lungs, lung * edge(diaphragm - y, 0.07))
    return lungs


def _ribs(rng: np.random.Generator, size: int, width: float) -> Float:
    y, x = grid(size)
    ribs = np.zeros((size, size))
    tilt, spacing = rng.uniform(0.35, 0.6), rng.uniform(0.17, 0.21)
    out = np.abs(x) / width
    for number in range(10):
        back = -0.95 + number * spacing + tilt * out**2 - 0.25 * out
        ribs += np.exp(-(((y - back) / 0.032) ** 2))
    collar = -0.72 - 0.16 * out + 0.1 * np.sin(3 * out)
    ribs += 1.4 * np.exp(-(((y - collar) / 0.035) ** 2)) * edge(out - 0.08, 0.1)
    visible: Float = np.clip(ribs, 0, 1.5) * edge(0.97 - out, 0.06)
    return visible


def _disease(rng: np.random.Generator, image: Float, lungs: Float, label: str) -> Float:
    """Bacteria: one or two dense patches in a lobe. Virus: haze and net on both sides."""
    size = len(image)
    if label == "bacteria":
        side = rng.choice([-1, 1])
        for _ in range(rng.integers(1, 3)):
            centre = (side * rng.uniform(0.25, 0.6), rng.uniform(-0.4, 0.45))
            radii = (rng.uniform(0.16, 0.34), rng.uniform(0.16, 0.36))
            patch = blob(rng, size, centre, radii, rough=0.25, softness=0.25)
            mottled = 1 + 0.25 * fractal_noise(rng, (size, size), 1.5)
            image = over(
                image, 0.68, np.clip(lungs * patch * mottled, 0, 1) * rng.uniform(0.5, 0.9)
            )
    elif label == "virus":
        net = ridges(smooth_noise(rng, (size, size), 1.4 * size / 64), 0.35)
        cloud = np.clip(0.6 + 0.4 * fractal_noise(rng, (size, size), 2.0), 0, 1.5)
        image = image + lungs * (rng.uniform(0.05, 0.13) * cloud + rng.uniform(0.08, 0.16) * net)
    else:
        image = image + lungs * rng.uniform(0, 0.06)
    return image


def _expose(rng: np.random.Generator, image: Float) -> Pixels:
    image = ndimage.rotate(image, rng.normal(0, 2.5), reshape=False, order=1, mode="nearest")
    image = ndimage.shift(image, rng.normal(0, 0.02 * len(image), 2), order=1, mode="nearest")
    image = np.clip(image, 0, 1) ** rng.uniform(0.75, 1.15) * rng.uniform(0.95, 1.25)
    if rng.random() < 0.5:  # the side marker that a radiographer lays on the plate
        centre = (rng.choice([-1, 1]) * rng.uniform(0.85, 0.92), rng.uniform(-0.9, -0.5))
        image = over(image, 0.95, ellipse(len(image), centre, (0.035, 0.05)))
    return as_pixels(image + rng.normal(0, rng.uniform(0.006, 0.018), image.shape))


def generate(count: int, *, seed: int = 0, size: int = 64) -> list[Labelled]:
    """`count` films (S, S), classes equally frequent; a patient has one to three of them."""
    order = streams(seed, "chest labels", 1)[0]
    labels = assign_labels(order, dict.fromkeys(CLASSES, 1.0), count)
    patients: dict[int, int] = {}  # film -> patient
    for label in CLASSES:
        films = [number for number, own in enumerate(labels) if own == label]
        while films:
            several = min(len(films), int(order.integers(1, 4)))
            patients.update(dict.fromkeys(films[:several], films[0]))
            del films[:several]
    samples = []
    for number, film in enumerate(streams(seed, "chest films", count)):
        anatomy = streams(seed, f"chest patient {patients[number]}", 1)[0]
        image = paint(anatomy, film, labels[number], size)
        samples.append(Labelled(image, labels[number], f"PATIENT_{patients[number]:05d}"))
    return samples


def write(folder: Path, *, seed: int, images: int, image_size: int) -> None:
    """A manifest `labels.csv` and grey PNG images."""
    write_manifest(folder, generate(images, seed=seed, size=image_size), ".png")
