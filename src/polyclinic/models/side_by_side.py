"""Several encoders as one: their maps side by side.

What an encoder knew before it was trained is partly lost in training. A site that took no part in
it can use both, the trained encoder and its start, at the price of features twice as wide.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from polyclinic.models.encoder import Encoder, EncoderConfig, Features
from polyclinic.models.state import State, under

_ENCODER = "encoders."


class SideBySide(Features):
    """Images (B, C, H, W) to the maps of all `encoders`, channel by channel, stage by stage.

    The encoders must have equally many stages (`ValueError`); each has weights of its own.
    """

    def __init__(self, encoders: Sequence[Encoder]) -> None:
        super().__init__()
        depths = {len(encoder.config.widths) for encoder in encoders}
        if len(depths) != 1:
            raise ValueError(
                f"expected encoders with equally many stages, got {sorted(depths)} of them"
            )
        self.encoders = nn.ModuleList(encoders)
        widths = zip(*(encoder.config.widths for encoder in encoders), strict=True)
        self.config = EncoderConfig(tuple(map(sum, widths)), encoders[0].config.depths)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Feature maps as `Encoder.forward` has them, with the widths of all encoders in sum."""
        maps = zip(*(encoder(images) for encoder in self.encoders), strict=True)
        return [torch.cat(same, dim=1) for same in maps]


def beside(*states: State) -> State:
    """The weights of `SideBySide` of encoders with these weights, in this order."""
    return {
        f"{_ENCODER}{number}.{name}": value
        for number, state in enumerate(states)
        for name, value in state.items()
    }


def apart(state: State) -> list[State]:
    """The inverse of `beside`; the weights of one encoder are a list of one."""
    found: list[State] = []
    while own := under(state, f"{_ENCODER}{len(found)}."):
        found.append(own)
    return found or [state]
