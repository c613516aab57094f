"""Phantom dermatoscopy: seven lesion classes as skewed as they are in a clinic.

The classes differ in border, symmetry, number of colours and inner structures. Skin tone, hairs,
vignette and camera vary with no regard to the class.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from polyclinic.data.phantoms.layouts import write_manifest
from polyclinic.data.phantoms.samples import Float, Labelled, Pixels, assign_labels, streams
from polyclinic.data.phantoms.shapes import Point, blob, edge, ellipse, grid, strokes
from polyclinic.data.phantoms.texture import (
    Colour,
    as_pixels,
    fractal_noise,
    over,
    ridges,
    shade,
    smooth_noise,
    tint,
    vary,
)

SHARES = {
    "nv": 0.59,
    "mel": 0.15,
    "bkl": 0.14,
    "bcc": 0.045,
    "vasc": 0.04,
    "df": 0.025,
    "akiec": 0.01,
}
CLASSES = tuple(SHARES)
CAMERAS = ("phantom_north", "phantom_south", "phantom_east")
BROWN: Colour = (0.52, 0.30, 0.20)


def paint(lesion: np.random.Generator, view: np.random.Generator, label: str, size: int) -> Pixels:
    """One photograph (S, S, 3): `lesion` draws what is there, `view` how it is photographed."""
    tone = lesion.uniform(0, 1)
    skin = vary(lesion, (0.90 - 0.12 * tone, 0.64 - 0.06 * tone, 0.60 - 0.04 * tone), 0.04)
    image = np.broadcast_to(skin, (size, size, 3)).copy()
    image += 0.02 * fractal_noise(lesion, (size, size), 1.2)[..., None] * (1, 1.3, 1.2)
    x, y = lesion.normal(0, 0.1, 2)
    image = LESIONS[label](lesion, image, (float(x), float(y)))
    if view.random() < 0.3:
        image = _hairs(view, image)
    image = image * shade(view, size, 0.12)[..., None]
    if view.random() < 0.35:
        row, column = grid(size)
        image *= edge(1.25 - np.hypot(row, column), 0.6)[..., None] * 0.7 + 0.3
    image = image + view.normal(0, 0.012, image.shape)
    return as_pixels(tint(view, image, 0.07))


def _hairs(rng: np.random.Generator, image: Float) -> Float:
    paths = []
    for _ in range(rng.integers(2, 9)):
        x, y = rng.uniform(-1, 1, 2)
        turn, bend, t = rng.uniform(0, np.pi), rng.normal(0, 0.5), np.linspace(-0.8, 0.8, 9)
        px = x + t * np.cos(turn) - bend * t**2 * np.sin(turn)
        py = y + t * np.sin(turn) + bend * t**2 * np.cos(turn)
        paths.append((list(zip(px.tolist(), py.tolist(), strict=True)), rng.uniform(0.012, 0.03)))
    return over(image, (0.22, 0.15, 0.13), 0.75 * strokes(len(image), paths))


def _frayed(rng: np.random.Generator, body: Float, amount: float, softness: float) -> Float:
    """`body`, its outline eaten away and spread by cloudy noise."""
    return edge(body - 0.5 + amount * fractal_noise(rng, body.shape, 1.8), softness)


def _radii(rng: np.random.Generator, least: float, most: float) -> Point:
    r, stretch = rng.uniform(least, most), np.exp(rng.normal(0, 0.18))
    return float(r * stretch), float(r / stretch)


def _naevus(rng: np.random.Generator, image: Float, centre: Point) -> Float:
    """Regular outline, soft border, one brown, a faint network."""
    size, turn = len(image), rng.uniform(0, np.pi)
    body = blob(rng, size, centre, _radii(rng, 0.22, 0.62), turn, rough=0.06, softness=0.5)
    body = _frayed(rng, body, 0.05, rng.uniform(0.3, 0.9))
    network = ridges(smooth_noise(rng, (size, size), 1.5), 0.4)
    dark = rng.uniform(0.45, 0.9)
    image = over(image, vary(rng, (0.56, 0.31, 0.22), 0.08), body * dark)
    return over(image, BROWN, body * network * rng.uniform(0.1, 0.45))


def _melanoma(rng: np.random.Generator, image: Float, centre: Point) -> Float:
    """Ragged outline, sharp in part, several colours, asymmetric, now and then a blue veil."""
    size, turn = len(image), rng.uniform(0, np.pi)
    body = blob(rng, size, centre, _radii(rng, 0.28, 0.66), turn, rough=0.12, harmonics=(2, 6),
                softness=0.5)  # fmt: skip
    body = _frayed(rng, body, rng.uniform(0.12, 0.26), rng.uniform(0.15, 0.4))
    image = over(image, vary(rng, (0.50, 0.28, 0.22), 0.08), body * rng.uniform(0.6, 0.95))
    patches = fractal_noise(rng, (size, size), 2.2)
    image = over(image, (0.22, 0.12, 0.12), body * edge(patches - 0.1, 1.2) * 0.85)
    for colour in ((0.45, 0.48, 0.58), (0.62, 0.30, 0.26)):
        if rng.random() < 0.6:
            x, y = np.array(centre) + rng.normal(0, 0.18, 2)
            r = rng.uniform(0.1, 0.22)
            spot = blob(rng, size, (x, y), (r, r), rough=0.3, softness=0.2)
            image = over(image, vary(rng, colour, 0.05), spot * body * 0.6)
    return image


def _keratosis(rng: np.random.Generator, image: Float, centre: Point) -> Float:
    """Stuck on: sharp border, waxy light brown, yellow milia and dark plugs, rough surface."""
    size, turn = len(image), rng.uniform(0, np.pi)
    body = blob(rng, size, centre, _radii(rng, 0.3, 0.65), turn, rough=0.08, softness=0.4)
    body = _frayed(rng, body, 0.08, 0.3)
    image = over(image, vary(rng, (0.66, 0.46, 0.34), 0.08), body * rng.uniform(0.4, 0.85))
    grains = smooth_noise(rng, (size, size), 1.3 * size / 64)
    image = over(image, (0.93, 0.83, 0.62), body * edge(grains - 1.5, 0.9) * 0.6)
    image = over(image, (0.36, 0.23, 0.18), body * edge(-grains - 1.5, 0.9) * 0.5)
    return over(image, BROWN, body * edge(fractal_noise(rng, (size, size), 1.5), 3) * 0.35)


def _basalioma(rng: np.random.Generator, image: Float, centre: Point) -> Float:
    """Pearly pink, arborising vessels, blue-grey ovoid nests, shiny white streaks."""
    size = len(image)
    body = blob(rng, size, centre, _radii(rng, 0.28, 0.6), rough=0.15, softness=0.4)
    image = over(image, vary(rng, (0.88, 0.55, 0.58), 0.06), body * rng.uniform(0.4, 0.8))
    vessels = []
    for _ in range(rng.integers(3, 7)):
        heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.45, 9))
        start = np.array(centre) + rng.normal(0, 0.25, 2)
        points = start + np.cumsum(0.06 * np.stack([np.cos(heading), np.sin(heading)], 1), 0)
        vessels.append(([(float(a), float(b)) for a, b in points], rng.uniform(0.015, 0.035)))
    image = over(image, (0.72, 0.16, 0.20), 0.55 * strokes(size, vessels))
    for _ in range(rng.integers(1, 5)):
        x, y = np.array(centre) + rng.normal(0, 0.2, 2)
        r = rng.uniform(0.04, 0.11)
        nest = blob(rng, size, (x, y), (r, 1.4 * r), rng.uniform(0, np.pi), softness=0.08)
        image = over(image, vary(rng, (0.38, 0.36, 0.46), 0.06), nest * 0.75)
    white = ridges(smooth_noise(rng, (size, size), (1, 4)), 0.08)
    return over(image, (0.97, 0.92, 0.92), body * white * 0.45)


def _actinic(rng: np.random.Generator, image: Float, centre: Point) -> Float:
    """Red, ill-defined, scaly: white flakes and a strawberry pattern about the follicles."""
    size = len(image)
    body = blob(rng, size, centre, _radii(rng, 0.35, 0.7), rough=0.2, softness=0.4)
    image = over(image, vary(rng, (0.80, 0.42, 0.40), 0.06), body * rng.uniform(0.4, 0.7))
    follicles = smooth_noise(rng, (size, size), 1.6 * size / 64)
    image = over(image, (0.68, 0.27, 0.27), body * ridges(follicles, 0.5) * 0.35)
    scale = fractal_noise(rng, (size, size), 1.3)
    return over(image, (0.95, 0.88, 0.78), body * edge(scale - 1.1, 1.5) * 0.7)


def _vascular(rng: np.random.Generator, image: Float, centre: Point) -> Float:
    """Round red to purple lacunae, sharply set off, side by side."""
    size, r = len(image), rng.uniform(0.12, 0.3)
    colour = vary(rng, (0.70, 0.14, 0.26) if rng.random() < 0.6 else (0.44, 0.20, 0.42), 0.07)
    image = over(image, (0.88, 0.45, 0.48), ellipse(size, centre, (1.6 * r, 1.6 * r), 0, 0.3) * 0.4)
    for _ in range(rng.integers(2, 6)):
        x, y = np.array(centre) + rng.normal(0, 0.45 * r, 2)
        own = r * rng.uniform(0.5, 0.95)
        lacuna = blob(rng, size, (x, y), (own, own), rough=0.06, softness=0.06)
        image = over(image, vary(rng, colour, 0.05), lacuna * 0.85)
    return image


def _fibroma(rng: np.random.Generator, image: Float, centre: Point) -> Float:
    """Light brown fading outwards about a pale scar-like middle."""
    size, radii = len(image), _radii(rng, 0.3, 0.5)
    ring = blob(rng, size, centre, radii, rough=0.06, softness=0.45)
    inner = (radii[0] * 0.4, radii[1] * 0.4)
    image = over(image, vary(rng, (0.66, 0.42, 0.34), 0.06), ring * rng.uniform(0.45, 0.8))
    scar = blob(rng, size, centre, inner, rough=0.2, softness=0.2)
    return over(image, (0.93, 0.80, 0.78), scar * rng.uniform(0.5, 0.85))


LESIONS: dict[str, Callable[[np.random.Generator, Float, Point], Float]] = {
    "nv": _naevus,
    "mel": _melanoma,
    "bkl": _keratosis,
    "bcc": _basalioma,
    "vasc": _vascular,
    "df": _fibroma,
    "akiec": _actinic,
}


def generate(count: int, *, seed: int = 0, size: int = 64) -> list[Labelled]:
    """`count` photographs (S, S, 3), shares as in `SHARES`; some lesions were taken twice.

    `patient` is the lesion, `device` the camera.
    """
    order = streams(seed, "skin labels", 1)[0]
    labels = assign_labels(order, SHARES, count)
    # Every fifth photograph shows the same lesion as an earlier one of its class.
    lesions = np.arange(count)
    for number in range(4, count, 5):
        earlier = [n for n in range(number) if labels[n] == labels[number]]
        lesions[number] = lesions[earlier[-1]] if earlier else number
    samples = []
    for label, lesion, view in zip(
        labels, lesions, streams(seed, "skin views", count), strict=True
    ):
        body = streams(seed, f"skin lesion {lesion}", 1)[0]
        image = paint(body, view, label, size)
        patient, device = f"LESION_{lesion:05d}", CAMERAS[lesion % len(CAMERAS)]
        samples.append(Labelled(image, label, patient, device))
    return samples


def write(folder: Path, *, seed: int, images: int, image_size: int) -> None:
    """A manifest `labels.csv` and JPEG images."""
    write_manifest(folder, generate(images, seed=seed, size=image_size), ".jpg")
