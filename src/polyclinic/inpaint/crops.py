"""Crops to train on: random views of slices with a region drawn on each, the same from a seed."""

from dataclasses import dataclass, replace
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
    contrast: float = 0.2  # relative, either way
    gamma: float = 0.2  # natural logarithm of the exponent of intensities, either way
    brightness: float = 0.05  # of the range -1..1, either way
    beside: float = 0.5  # share of crops that are shown the neighbouring slice
    other: float = 0.4  # share of crops that are shown another sequence, where there is one
    blemish: float = 0.08  # largest deviation of noise on these two, which painting paints itself
    dropped: float = 0.1  # share of crops whose request is hidden
    nameless: float = 0.15  # share of crops whose sequence is not told
    tumour_slices: float = 0.7  # share of crops from slices that show a tumour
    wide_every: int = 4  # one batch in so many has half as many crops, 1.5 times as wide

    def plain(self) -> "Views":
        """To judge by: images look as they were scanned, and no request is hidden."""
        return replace(self, contrast=0.0, gamma=0.0, brightness=0.0, blemish=0.0, dropped=0.0)


@dataclass(frozen=True)
class Look:
    """How a scanner of another kind would show the same image; air stays what it is, about."""

    gain: float
    exponent: float
    shift: float

    @staticmethod
    def draw(views: Views, rng: np.random.Generator) -> "Look":
        """A random one."""
        return Look(
            1 + rng.uniform(-views.contrast, views.contrast),
            float(np.exp(rng.uniform(-views.gamma, views.gamma))),
            rng.uniform(-views.brightness, views.brightness),
        )

    def of(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """The image (H, W), scaled intensities, as it would be shown."""
        share = np.maximum((image - BLACK) / 2, 0) ** self.exponent
        shown: NDArray[np.float32] = (2 * self.gain * share + BLACK + self.shift).astype(np.float32)
        return shown


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
        self.cases, self.network, self.seed = cases, network, seed
        self.views, self.mixture = views, mixture
        self.shapes = outlines(cases)
        slices = [(c, z) for c, case in enumerate(cases) for z in range(len(case.components))]
        shown = [bool((cases[c].components[z] > 0).any()) for c, z in slices]
        self.with_tumour = [pair for pair, has in zip(slices, shown, strict=True) if has]
        self.without = [pair for pair, has in zip(slices, shown, strict=True) if not has]
        self.shares = rarity([cases[c].components[z] for c, z in self.with_tumour])

    def batch(self, number: int, count: int) -> Batch:
        """Batch `number`, of `count` crops or half of that (see `Views.wide_every`), on the CPU."""
        rng = np.random.default_rng(derive(self.seed, "crops", number))
        side = self.network.crop
        if number % self.views.wide_every == self.views.wide_every - 1:
            side, count = side * 3 // 2, (count + 1) // 2
        crops = [self._crop(rng, side) for _ in range(count)]
        planes = {name: np.stack([crop[name] for crop in crops]) for name in crops[0]}
        x = np.stack([planes["known"], planes.pop("truth")], axis=1)
        for name in ("known", "beside", "other"):
            planes[name] = planes[name][:, None]
        # NumPy throughout: PyTorch's own threads would compete with those of the training
        request = Request(**{name: torch.from_numpy(plane) for name, plane in planes.items()})
        return Batch(torch.from_numpy(x), request)

    def _crop(self, rng: np.random.Generator, side: int) -> dict[str, NDArray[Any]]:
        views = self.views
        of_tumour = bool(self.with_tumour) and (
            not self.without or rng.random() < views.tumour_slices
        )
        if of_tumour:
            c, z = self.with_tumour[rng.choice(len(self.with_tumour), p=self.shares)]
        else:
            c, z = self.without[rng.integers(len(self.without))]
        case = self.cases[c]
        sequence = int(rng.choice(list(case.volumes)))
        volume = case.volumes[sequence]
        step = int(rng.choice([-1, 1]))
        contiguous = 0 <= z + step < len(volume) and bool(
            case.components[[z, z + step]].any(axis=(1, 2)).any()
        )  # data sets thin out slices without tumour
        has_beside = contiguous and rng.random() < views.beside
        others = [number for number in case.volumes if number != sequence]
        has_other = bool(others) and rng.random() < views.other
        near = case.components[z] > 0
        if not (near.any() and rng.random() < views.near_tumour):
            near = case.head[z]
        affine = self._view(np.argwhere(near), side, self.network.scale(case.head_px), rng)

        def cut(plane: NDArray[Any], order: Order, outside: float) -> Any:
            return _cut(plane, affine, side, order, outside)

        look = Look.draw(views, rng)
        image = look.of(cut(volume[z], 1, BLACK))
        beside, other = np.zeros_like(image), np.zeros_like(image)
        if has_beside:
            beside = _blemished(look.of(cut(volume[z + step], 1, BLACK)), views, rng)
        if has_other:
            second = case.volumes[int(rng.choice(others))][z]
            other = _blemished(Look.draw(views, rng).of(cut(second, 1, BLACK)), views, rng)
        components = cut(case.components[z], 0, 0)
        head = cut(case.head[z].astype(np.uint8), 0, 0) > 0
        region = draw_region(components, head, self.shapes, rng, self.mixture)
        asked = region.fill_map == components
        mixed = (region.fill_map == MIXED) & (components > 0)
        truth = np.where((region.fill_map > 0) & (asked | mixed), 1.0, -1.0)
        told = UNKNOWN_SEQUENCE if rng.random() < views.nameless else sequence
        return {
            "known": image,
            "beside": beside,
            "other": other,
            "fill_map": region.fill_map.astype(np.int64),
            "boxed": region.boxed,
            "truth": truth.astype(np.float32),
            "sequence": np.asarray(told, np.int64),
            "has_beside": np.asarray(has_beside, bool),
            "has_other": np.asarray(has_other, bool),
            "dropped": np.asarray(rng.random() < views.dropped, bool),
        }

    def _view(
        self, places: NDArray[np.integer], side: int, resolution: float, rng: np.random.Generator
    ) -> Affine:
        views = self.views
        centre = places[rng.integers(len(places))] + rng.uniform(-0.15, 0.15, 2) * side
        angle = np.deg2rad(rng.uniform(-views.rotation, views.rotation))
        scale = np.exp(rng.uniform(-views.zoom, views.zoom)) / resolution
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = scale * turn @ np.diag([1.0, rng.choice([-1.0, 1.0])])
        if (
            resolution == 1 and rng.random() < 0.5
        ):  # half of the crops are the scanner's own pixels, not interpolated
            matrix = np.diag([1.0, rng.choice([-1.0, 1.0])])
            centre = np.round(centre)
        middle = np.full(2, float(side // 2))
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


def rarity(component_maps: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Shares with which slices (H, W) are drawn: more often where they show what few others do.

    A slice weighs as the rarest of its components: the square root of how many times rarer than
    the most frequent one it is.
    """
    if not component_maps:
        return np.empty(0)
    components = range(1, MIXED + 1)
    shown = np.array([[(plane == c).any() for c in components] for plane in component_maps])
    counts = shown.sum(axis=0)
    weights = (shown * np.sqrt(counts.max() / np.maximum(counts, 1))).max(axis=1)
    return np.asarray(weights / weights.sum(), np.float64)


def _blemished(
    image: NDArray[np.float32], views: Views, rng: np.random.Generator
) -> NDArray[np.float32]:
    """The image with a little noise: what was painted is never quite like what was scanned."""
    noise = rng.normal(0, rng.uniform(0, views.blemish), image.shape)
    return (image + noise).astype(np.float32)


def _cut(plane: NDArray[Any], affine: Affine, side: int, order: Order, outside: float) -> Any:
    """The pixels of a crop, of the type of `plane` (H, W)."""
    matrix, offset = affine
    return ndimage.affine_transform(
        plane, matrix, offset, (side, side), order=order, mode="constant", cval=outside
    )
