"""What every check is, and what it looks at: facts that were measured once for all of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from polyclinic.data.dataset import Finding, Item, Scan

THUMBNAIL = 32
"""Side of the grey thumbnail that is kept of every image, px."""


@dataclass(frozen=True)
class ImageFacts:
    """What is measured of one image; `reason` says why nothing could be.

    `shape` (H, W) and `channels` are those of the decoded image, grey values 0..255. `intensity`
    holds mean, standard deviation, percentile 95, and sharpness (the mean difference of
    neighbours over the standard deviation). `characters` is the length of the longest line of
    burned-in text that was seen. `labels` counts the pixels of each class in the mask, the
    background first; it is empty where there is no mask.
    """

    reason: str = ""
    shape: tuple[int, int] = (0, 0)
    channels: int = 1
    digest: bytes = b""
    blank: bool = False
    thumbnail: bytes = b""  # uint8 (THUMBNAIL, THUMBNAIL)
    intensity: tuple[float, ...] = ()
    characters: int = 0
    labels: tuple[int, ...] = ()


@dataclass(frozen=True)
class FileFacts:
    """What the head of one file says, whatever its name is.

    `kind` is a format such as `PNG`, or empty where none is recognised. `bits` are those of a
    channel of an image file. `identity` names entries that may identify a patient, never their
    values. `grid` is shape and affine of a NIfTI volume, rounded.
    """

    name: str
    kind: str = ""
    empty: bool = False
    bits: int = 0
    identity: tuple[str, ...] = ()
    grid: tuple[float, ...] = ()


@dataclass(frozen=True)
class Survey:
    """A site's folder as the checks see it: `images[i]` are the facts of `scan.items[i]`."""

    scan: Scan
    images: tuple[ImageFacts, ...]
    files: tuple[FileFacts, ...]

    @cached_property
    def readable(self) -> tuple[int, ...]:
        """Rows of the images that could be read, ascending."""
        return tuple(row for row, facts in enumerate(self.images) if not facts.reason)

    @cached_property
    def seen(self) -> tuple[int, ...]:
        """Rows of the images that could be read and show something, ascending."""
        return tuple(row for row in self.readable if not self.images[row].blank)

    @cached_property
    def thumbnails(self) -> NDArray[np.float32]:
        """The thumbnails of `seen`, (N, THUMBNAIL, THUMBNAIL), 0..255."""
        joined = b"".join(self.images[row].thumbnail for row in self.seen)
        pixels = np.frombuffer(joined, np.uint8).reshape(-1, THUMBNAIL, THUMBNAIL)
        return pixels.astype(np.float32)

    def item(self, row: int) -> Item:
        """The item of a row."""
        return self.scan.items[row]


@dataclass(frozen=True)
class Check:
    """One question about a site's data.

    `run(survey)` gives a finding for each thing that is wrong; `describe` says in a few words
    what is looked for.
    """

    name: str
    describe: str
    run: Callable[[Survey], Sequence[Finding]]
