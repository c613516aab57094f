"""Crops to train on: random views of slices with a region drawn on each, the same from a seed."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from polyclinic.inpaint.cases import Case
from polyclinic.inpaint.components import MIXED, UNKNOWN_SEQUENCE
from polyclinic.inpaint.conditioning import Request
from polyclinic.inpaint.intensity import BLACK
from polyclinic.inpaint.network import NetworkConfig
from polyclinic.inpaint.regions import Mixture, draw_region
from polyclinic.seeding import derive

MAX_SHAPES = 2000
"""Outlines of tumours that are kept to draw from."""

Affine = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Matrix (2, 2) and offset (2) that lead from pixels of a crop to pixels of a slice."""
Order = Literal[0, 1]


@dataclass(frozen=True)
class Views:
    """Ranges of random crops."""

    zoom: float = 0.25  # natural logarithm, either way
    rotation: float = 15.0  # degrees, either way
    near_tumour: float = 0.75  # share of crops that are centred on a tumour where there is one
    contrast: float = 0.1  # relative, either way
    brightness: float = 0.1  # of the range -1..1, either way
    beside: float = 0.5  # share of crops that are shown the neighbouring slice
    dropped: float = 0.1  # share of crops whose request is hidden
    nameless: float = 0.15  # share of crops whose sequence is not told
    tumour_slices: float = 0.7  # share of crops from slices that show a tumour


@dataclass(frozen=True)
class Batch:
    """`x` float (B, 2, S, S): the image and the tumour map that is right for the request."""

    x: Tensor
    request: Request


class Crops:
    """Random crops of cases: the number of a batch and a seed say what is in it."""

    def __init__(
        self, cases: list[Case], network: NetworkConfig, seed: int, views: Views, mixture: Mixture
    ) -> None:
        self.cases, self.network, self.side, self.seed = cases, network, network.crop, seed
        self.views, self.mixture = views, mixture
        self.shapes = outlines(cases)
        slices = [(c, z) for c, case in enumerate(cases) for z in range(len(case.components))]
        shown = [bool((cases[c].components[z] > 0).any()) for c, z in slices]
        self.with_tumour = [pair for pair, has in zip(slices, shown, strict=True) if has]
        self.without = [pair for pair, has in zip(slices, shown, strict=True) if not has]

    def batch(self, number: int, count: int) -> Batch:
        """Batch `number`, of `count` crops, on the CPU."""
        rng = np.random.default_rng(derive(self.seed, "crops", number))
        crops = [self._crop(rng) for _ in range(count)]
        images, besides, fill_maps, boxes, truths, sequences, neighbours, drops = zip(
            *crops, strict=True
        )
        known = torch.from_numpy(np.stack(images)).unsqueeze(1)
        tumour_map = torch.from_numpy(np.stack(truths)).unsqueeze(1)
        request = Request(
            known=known,
            fill_map=torch.from_numpy(np.stack(fill_maps)).long(),
            boxed=torch.from_numpy(np.stack(boxes)),
            sequence=torch.tensor(sequences),
            beside=torch.from_numpy(np.stack(besides)).unsqueeze(1),
            has_beside=torch.tensor(neighbours),
            dropped=torch.tensor(drops),
        )
        return Batch(torch.cat([known, tumour_map], dim=1), request)

    def _crop(self, rng: np.random.Generator) -> tuple[object, ...]:
        views = self.views
        of_tumour = bool(self.with_tumour) and (
            not self.without or rng.random() < views.tumour_slices
        )
        slices = self.with_tumour if of_tumour else self.without
        c, z = slices[rng.integers(len(slices))]
        case = self.cases[c]
        sequence = int(rng.choice(list(case.volumes)))
        volume = case.volumes[sequence]
        step = int(rng.choice([-1, 1]))
        contiguous = 0 <= z + step < len(volume) and bool(
            case.components[[z, z + step]].any(axis=(1, 2)).any()
        )  # data sets thin out slices without tumour
        has_beside = contiguous and rng.random() < views.beside
        near = case.components[z] > 0
        if not (near.any() and rng.random() < views.near_tumour):
            near = case.head[z]
        affine = self._view(np.argwhere(near), self.network.scale(case.head_px), rng)
        image = _cut(volume[z], affine, self.side, order=1, outside=BLACK)
        beside = np.zeros_like(image)
        if has_beside:
            beside = _cut(volume[z + step], affine, self.side, order=1, outside=BLACK)
        gain = 1 + rng.uniform(-views.contrast, views.contrast)
        shift = rng.uniform(-views.brightness, views.brightness)
        image, beside = image * gain + shift, (beside * gain + shift) * has_beside
        components = _cut(case.components[z], affine, self.side, order=0, outside=0)
        head = _cut(case.head[z].astype(np.uint8), affine, self.side, order=0, outside=0) > 0
        region = draw_region(components, head, self.shapes, rng, self.mixture)
        asked = np.where(region.fill_map == components, 1.0, -1.0)
        mixed = (region.fill_map == MIXED) & (components > 0)
        truth = np.where((region.fill_map > 0) & ((asked > 0) | mixed), 1.0, -1.0)
        dropped = bool(rng.random() < views.dropped)
        told = UNKNOWN_SEQUENCE if rng.random() < views.nameless else sequence
        return (
            image.astype(np.float32),
            beside.astype(np.float32),
            region.fill_map,
            region.boxed,
            truth.astype(np.float32),
            told,
            bool(has_beside),
            dropped,
        )

    def _view(
        self, places: NDArray[np.integer], resolution: float, rng: np.random.Generator
    ) -> Affine:
        views = self.views
        centre = places[rng.integers(len(places))] + rng.uniform(-0.15, 0.15, 2) * self.side
        angle = np.deg2rad(rng.uniform(-views.rotation, views.rotation))
        scale = np.exp(rng.uniform(-views.zoom, views.zoom)) / resolution
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = scale * turn @ np.diag([1.0, rng.choice([-1.0, 1.0])])
        if (
            resolution == 1 and rng.random() < 0.5
        ):  # half of the crops are the scanner's own pixels, not interpolated
            matrix = np.diag([1.0, rng.choice([-1.0, 1.0])])
            centre = np.round(centre)
        middle = np.full(2, float(self.side // 2))
        return matrix, centre - matrix @ middle


def outlines(cases: list[Case]) -> list[NDArray[np.bool_]]:
    """Tumours of all slices, cut out, at most `MAX_SHAPES`."""
    shapes = []
    for case in cases:
        for plane in case.components > 0:
            if plane.sum() >= 12:
                rows, columns = np.flatnonzero(plane.any(1)), np.flatnonzero(plane.any(0))
                shapes.append(plane[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    return shapes[:: max(1, len(shapes) // MAX_SHAPES)]


def _cut(plane: NDArray[Any], affine: Affine, side: int, order: Order, outside: float) -> Any:
    """The pixels of a crop, of the type of `plane` (H, W)."""
    matrix, offset = affine
    return ndimage.affine_transform(
        plane, matrix, offset, (side, side), order=order, mode="constant", cval=outside
    )
