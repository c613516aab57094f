"""Phantom fundus photographs with their vessel trees."""

from pathlib import Path

import numpy as np

from polyclinic.data.phantoms.layouts import write_mask_pairs
from polyclinic.data.phantoms.samples import Float, Masked, streams
from polyclinic.data.phantoms.shapes import Point, edge, ellipse, grid, strokes
from polyclinic.data.phantoms.texture import as_pixels, fractal_noise, over, shade, tint, vary

Path2D = tuple[list[Point], float]  # points and width of one vessel segment


def paint(rng: np.random.Generator, size: int) -> Masked:
    """One photograph (S, S, 3) and its vessels (S, S), 1 = vessel."""
    y, x = grid(size)
    whole_disc = rng.random() < 0.6  # the other camera fills the frame and cuts the circle
    field = edge((0.96 if whole_disc else 1.32) - np.hypot(x, y), 0.03)
    side = float(rng.choice([-1, 1]))
    disc = (side * rng.uniform(0.35, 0.6), rng.uniform(-0.12, 0.12))
    macula = (disc[0] - side * 0.62, disc[1] + rng.uniform(0.02, 0.12))

    pigment = rng.uniform(0, 1)
    ground = vary(rng, (0.90 - 0.28 * pigment, 0.42 - 0.14 * pigment, 0.16), 0.05)
    image = np.broadcast_to(ground, (size, size, 3)).copy()
    image *= 1 + 0.05 * fractal_noise(rng, (size, size), 1.8)[..., None]
    image = over(image, (0.45, 0.16, 0.08), ellipse(size, macula, (0.2, 0.2), 0, 0.35) * 0.5)
    glow = np.exp(-((x - disc[0]) ** 2 + (y - disc[1]) ** 2) / 0.12)
    image = over(image, (0.98, 0.62, 0.30), 0.35 * glow)
    r = rng.uniform(0.11, 0.15)
    image = over(image, (1.0, 0.80, 0.48), ellipse(size, disc, (0.92 * r, r), 0, 0.04) * 0.85)
    cup = (disc[0] - side * 0.01, disc[1])
    image = over(image, (1.0, 0.93, 0.72), ellipse(size, cup, (0.45 * r, 0.5 * r), 0, 0.06) * 0.8)

    veins, arteries = (_tree(rng, disc, macula, side, thick) for thick in (0.044, 0.033))
    vein_opacity, artery_opacity = strokes(size, veins), strokes(size, arteries)
    image = over(image, (0.42, 0.07, 0.06), vein_opacity * rng.uniform(0.6, 0.9))
    image = over(image, (0.66, 0.14, 0.08), artery_opacity * rng.uniform(0.55, 0.85))
    if rng.random() < 0.35:
        image = _exudates(rng, image, macula)
    image = image * shade(rng, size, 0.16)[..., None] + rng.normal(0, 0.012, image.shape)
    image = tint(rng, image, 0.08) * field[..., None]
    vessels = (np.maximum(vein_opacity, artery_opacity) >= 0.5) & (field >= 0.5)
    return Masked(as_pixels(image), vessels.astype(np.uint8))


def _tree(
    rng: np.random.Generator, disc: Point, macula: Point, side: float, thick: float
) -> list[Path2D]:
    """Vessel segments: arcades that leave the disc up and down, bend round the macula, branch."""
    growing = []
    for up in (-1.0, 1.0):
        start = up * (np.pi / 2 + rng.normal(0, 0.15))
        growing.append((disc, start, thick, side * up * rng.uniform(0.9, 1.5), 0))
        nasal = up * rng.uniform(0.3, 1.0)
        growing.append(
            (disc, nasal if side > 0 else np.pi - nasal, 0.7 * thick, rng.normal(0, 0.3), 1)
        )
    segments: list[Path2D] = []
    while growing:
        (px, py), heading, width, bend, depth = growing.pop()
        points = [(px, py)]
        for step in range(int(rng.integers(16, 30))):
            heading += 0.06 * bend + rng.normal(0, 0.09)
            px, py = px + 0.05 * np.cos(heading), py + 0.05 * np.sin(heading)
            points.append((float(px), float(py)))
            if step % 4 == 3:
                segments.append((points, width))
                points = [(float(px), float(py))]
                width = max(0.92 * width, 0.016)
                if depth < 3 and rng.random() < 0.36:
                    fork = rng.choice([-1, 1]) * rng.uniform(0.4, 0.9)
                    growing.append(
                        ((px, py), heading + fork, max(0.7 * width, 0.016), -fork * 0.5, depth + 1)
                    )
            fovea = np.hypot(px - macula[0], py - macula[1]) < 0.2  # no vessel crosses it
            if fovea or px * px + py * py > 1.9:
                break
        if len(points) > 1:
            segments.append((points, width))
    return segments


def _exudates(rng: np.random.Generator, image: Float, macula: Point) -> Float:
    for dx, dy in rng.normal(0, 0.28, (rng.integers(4, 14), 2)):
        r = rng.uniform(0.012, 0.035)
        spot = ellipse(len(image), (macula[0] + dx, macula[1] + dy), (r, r), 0, 0.03)
        image = over(image, (0.98, 0.86, 0.50), spot * 0.7)
    return image


def generate(count: int, *, seed: int = 0, size: int = 128) -> list[Masked]:
    """`count` photographs with vessel masks."""
    return [paint(rng, size) for rng in streams(seed, "retina", count)]


def write(folder: Path, *, seed: int, images: int, image_size: int) -> None:
    """`images // 6` pairs, six at least, at twice `image_size`."""
    write_mask_pairs(folder, generate(max(6, images // 6), seed=seed, size=2 * image_size))
