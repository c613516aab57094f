"""Phantom blood smears: one white cell (or platelet) among red cells, eight classes.

The classes differ in size, number and place of the nucleus's lobes, granules and vacuoles;
stain and illumination vary with no regard to the class.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from polyclinic.data.phantoms.layouts import write_class_folders
from polyclinic.data.phantoms.samples import Float, Labelled, Pixels, assign_labels, streams
from polyclinic.data.phantoms.shapes import blob, edge, lattice, strew
from polyclinic.data.phantoms.texture import (
    Colour,
    as_pixels,
    over,
    shade,
    smooth_noise,
    tint,
    vary,
)


@dataclass(frozen=True)
class Cell:
    """How one class looks. Lengths are shares of the cell's radius."""

    radius: float  # half image widths
    cytoplasm: Colour
    lobes: tuple[int, int]  # fewest and most
    lobe: float  # radius of one lobe
    arc: float  # distance of the lobes from the centre
    sweep: float  # radians over which the lobes lie
    nucleus: Colour = (0.36, 0.17, 0.47)
    granules: tuple[Colour, float] | None = None  # colour, and share of the cell they cover
    rough: float = 0.06
    vacuoles: bool = False


CELLS = {
    "basophil": Cell(
        0.40, (0.64, 0.48, 0.70), (2, 3), 0.55, 0.3, 3.5, granules=((0.24, 0.10, 0.38), 0.45)
    ),
    "eosinophil": Cell(
        0.44, (0.86, 0.62, 0.66), (2, 2), 0.43, 0.45, 2.6, granules=((0.80, 0.38, 0.40), 0.5)
    ),
    "erythroblast": Cell(
        0.29, (0.60, 0.55, 0.68), (1, 1), 0.60, 0.15, 0.0, nucleus=(0.22, 0.12, 0.36)
    ),
    "ig": Cell(
        0.48, (0.72, 0.62, 0.80), (2, 3), 0.55, 0.30, 1.2, granules=((0.52, 0.30, 0.60), 0.18)
    ),
    "lymphocyte": Cell(0.33, (0.60, 0.60, 0.80), (1, 1), 0.85, 0.08, 0.0, rough=0.08),
    "monocyte": Cell(
        0.52, (0.64, 0.64, 0.76), (3, 4), 0.42, 0.42, 2.6, rough=0.12, vacuoles=True
    ),
    "neutrophil": Cell(
        0.43, (0.88, 0.78, 0.82), (3, 5), 0.30, 0.45, 4.4, granules=((0.74, 0.56, 0.68), 0.2)
    ),
    "platelet": Cell(
        0.14, (0.62, 0.46, 0.70), (1, 1), 0.01, 0.0, 0.0, rough=0.2,
        granules=((0.40, 0.20, 0.55), 0.5),
    ),
}  # fmt: skip
CLASSES = tuple(CELLS)


def paint(rng: np.random.Generator, label: str, size: int) -> Pixels:
    """One smear (S, S, 3) with a cell of class `label` near the middle."""
    ground: Colour = (0.98, 0.90, 0.80) if rng.random() < 0.8 else (0.88, 0.86, 0.94)
    image = np.broadcast_to(vary(rng, ground, 0.03), (size, size, 3)).copy()
    centre = (float(rng.normal(0, 0.05)), float(rng.normal(0, 0.05)))
    cell = CELLS[label]
    radius = cell.radius * rng.uniform(0.82, 1.2)
    image = _red_cells(rng, image, centre, radius)
    image = _platelets(rng, image)
    image = _white_cell(rng, image, cell, centre, radius)
    image = image * shade(rng, size, 0.06)[..., None] + rng.normal(0, 0.012, image.shape)
    return as_pixels(tint(rng, image, 0.045))


def _red_cells(
    rng: np.random.Generator, image: Float, centre: tuple[float, float], keep_clear: float
) -> Float:
    r = rng.uniform(0.17, 0.23)
    points = lattice(rng, 2.3 * r, 0.17)
    points = points[rng.random(len(points)) < rng.uniform(0.35, 0.85)]
    points = points[np.hypot(*(points - centre).T) > keep_clear + 0.8 * r]
    if not len(points):
        return image
    radii = r * rng.uniform(0.82, 1.12, (len(points), 2))
    angles = rng.uniform(0, np.pi, len(points))
    level, reach, owner = strew(rng, len(image), points, radii, angles, rough=0.2)
    pallor = rng.uniform(0, 1, len(points))[owner] * edge(0.45 - reach, 0.5)
    image = over(image, vary(rng, (0.80, 0.65, 0.64), 0.04), edge(level, 0.05))
    return over(image, (0.97, 0.90, 0.84), 0.95 * pallor)


def _platelets(rng: np.random.Generator, image: Float) -> Float:
    for x, y in rng.uniform(-1, 1, (rng.integers(0, 3), 2)):
        r = rng.uniform(0.03, 0.06)
        image = over(image, (0.50, 0.32, 0.62), 0.8 * blob(rng, len(image), (x, y), (r, r)))
    return image


def _white_cell(
    rng: np.random.Generator,
    image: Float,
    cell: Cell,
    centre: tuple[float, float],
    radius: float,
) -> Float:
    size = len(image)
    stretch = rng.uniform(0.88, 1.12)
    body = blob(rng, size, centre, (radius * stretch, radius / stretch),
                rng.uniform(0, np.pi), rough=cell.rough)  # fmt: skip
    image = over(image, vary(rng, cell.cytoplasm, 0.05), body * 0.95)
    image = image - 0.03 * (body * smooth_noise(rng, (size, size), 1.0))[..., None]
    nucleus = _nucleus(rng, size, cell, centre, radius) * body
    chromatin = 0.05 * smooth_noise(rng, (size, size), 1.2)[..., None]
    image = over(image, np.asarray(vary(rng, cell.nucleus, 0.05)) + chromatin, 0.95 * nucleus)
    if cell.vacuoles:
        for dx, dy in rng.normal(0, 0.55 * radius, (rng.integers(1, 5), 2)):
            r = rng.uniform(0.03, 0.06)
            hole = blob(rng, size, (centre[0] + dx, centre[1] + dy), (r, r))
            image = over(image, (0.85, 0.82, 0.88), 0.7 * hole * body)
    if cell.granules:
        colour, cover = cell.granules
        grains = smooth_noise(rng, (size, size), 0.75 * size / 64)
        dots = edge(grains - np.quantile(grains, 1 - cover), 0.8) * body
        image = over(image, vary(rng, colour, 0.05), 0.75 * dots * (1 - 0.6 * nucleus))
    return image


def _nucleus(
    rng: np.random.Generator, size: int, cell: Cell, centre: tuple[float, float], radius: float
) -> Float:
    lobes = int(rng.integers(cell.lobes[0], cell.lobes[1] + 1))
    start, arc = rng.uniform(0, 2 * np.pi), cell.arc * rng.uniform(0.7, 1.25)
    nucleus = np.zeros((size, size))
    for turn in np.linspace(0, cell.sweep * rng.uniform(0.8, 1.1), lobes) if lobes > 1 else [0.0]:
        x = centre[0] + radius * arc * np.cos(start + turn)
        y = centre[1] + radius * arc * np.sin(start + turn)
        r = radius * cell.lobe * rng.uniform(0.88, 1.12)
        nucleus = np.maximum(nucleus, blob(rng, size, (x, y), (r, r), rough=0.07))
    return nucleus


def generate(count: int, *, seed: int = 0, size: int = 64) -> list[Labelled]:
    """`count` smears (S, S, 3), the eight classes equally frequent, in random order."""
    labels = assign_labels(streams(seed, "blood labels", 1)[0], dict.fromkeys(CLASSES, 1.0), count)
    return [
        Labelled(paint(rng, label, size), label, patient=f"{number:05d}")
        for number, (rng, label) in enumerate(
            zip(streams(seed, "blood", count), labels, strict=True)
        )
    ]


def write(folder: Path, *, seed: int, images: int, image_size: int) -> None:
    """Class folders of JPEG."""
    write_class_folders(folder, generate(images, seed=seed, size=image_size), ".jpg")
