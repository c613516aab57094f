"""What the network sees: the one place that says which channel is what.

An edit concerns a crop (H, W) of one slice of one sequence. What is diffused has two channels:
the image, and the tumour map, which is 1 where a pixel has the component that is asked for and -1
where it is tumour-free. In an exact region the tumour map is known from the start; in a box the
model draws it, and so chooses the contour.

The `CHANNELS` channels of the network's input:

    0      noisy image inside the fill region, 0 outside
    1      known image outside the fill region, 0 inside
    2      fill mask: 1 where the image is to be painted
    3      tumour map inside the fill region: noisy in boxes, else known; 0 outside
    4..8   one channel a component of `COMPONENTS`: 1 where it is asked for
    9      box flag: 1 inside boxes
    10     the slice beside this one, 0 where there is none
    11     1 where there is a slice beside this one
    12     the same slice in another sequence, 0 where there is none
    13     1 where there is another sequence

The sequence enters as an embedding, the noise level as another. A request that is dropped, for
classifier-free guidance (Ho and Salimans, arXiv 2207.12598), has zeros in channels 3 to 9: what is
left says only where to paint, and into what sequence.
"""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from polyclinic.inpaint.components import COMPONENTS, KEEP, TUMOUR_FREE

CHANNELS = 9 + len(COMPONENTS)
DIFFUSED = 2
"""Image and tumour map."""


@dataclass(frozen=True)
class Request:
    """What a batch of crops holds and what is asked of it; all tensors on one device.

    `known` float (B, 1, H, W) is the scaled image, of which only pixels outside the fill region
    are read; `fill_map` int64 (B, H, W) holds `KEEP` or component numbers; `boxed` bool
    (B, H, W) marks the pixels of boxes; `sequence` int64 (B); `beside` float (B, 1, H, W) is the
    neighbouring slice and `has_beside` bool (B) says whether there is one; `other` and `has_other`
    are the same for another sequence of this slice; `dropped` bool (B) marks those whose request is
    hidden.
    """

    known: Tensor
    fill_map: Tensor
    boxed: Tensor
    sequence: Tensor
    beside: Tensor
    has_beside: Tensor
    other: Tensor
    has_other: Tensor
    dropped: Tensor

    @property
    def fill_mask(self) -> Tensor:
        """1 where the image is to be painted, float (B, 1, H, W)."""
        return (self.fill_map != KEEP).unsqueeze(1).to(self.known.dtype)

    @property
    def box_mask(self) -> Tensor:
        """1 where the model chooses the contour, float (B, 1, H, W)."""
        chosen = self.boxed & (self.fill_map > TUMOUR_FREE)
        return chosen.unsqueeze(1).to(self.known.dtype)

    @property
    def exact_map(self) -> Tensor:
        """The tumour map that exact regions ask for: 1, -1, and 0 outside them, (B, 1, H, W)."""
        asked = torch.where(self.fill_map > TUMOUR_FREE, 1.0, -1.0).unsqueeze(1)
        return asked.to(self.known.dtype) * self.fill_mask * (1 - self.box_mask)

    @property
    def diffused_mask(self) -> Tensor:
        """1 where the image, and where the tumour map, is diffused, float (B, 2, H, W)."""
        seen = (~self.dropped).to(self.known.dtype).view(-1, 1, 1, 1)
        return torch.cat([self.fill_mask, self.box_mask * seen], dim=1)

    def to(self, device: torch.device) -> "Request":
        """The same request on another device."""
        return Request(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    def mirrored(self) -> "Request":
        """The same crops, left and right exchanged."""
        planes = ("known", "fill_map", "boxed", "beside", "other")
        return replace(self, **{name: getattr(self, name).flip(-1) for name in planes})

    def hidden(self) -> "Request":
        """The same crops with every request dropped."""
        return replace(self, dropped=torch.ones_like(self.dropped))


def network_input(noisy: Tensor, request: Request) -> tuple[Tensor, Tensor]:
    """The input (B, `CHANNELS`, H, W) and the sequence numbers (B) for noisy state (B, 2, H, W)."""
    fill = request.fill_mask
    seen = (~request.dropped).to(noisy.dtype).view(-1, 1, 1, 1)
    box = request.box_mask
    asked = [(request.fill_map == number).unsqueeze(1) for number in range(len(COMPONENTS))]
    has_beside = request.has_beside.to(noisy.dtype).view(-1, 1, 1, 1)
    has_other = request.has_other.to(noisy.dtype).view(-1, 1, 1, 1)
    channels = [
        noisy[:, :1] * fill,
        request.known * (1 - fill),
        fill,
        (noisy[:, 1:] * box + request.exact_map) * seen,
        torch.cat(asked, dim=1).to(noisy.dtype) * seen,
        box * seen,
        request.beside * has_beside,
        has_beside.expand_as(fill),
        request.other * has_other,
        has_other.expand_as(fill),
    ]
    return torch.cat(channels, dim=1), request.sequence
