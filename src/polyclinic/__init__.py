"""One universal medical-imaging model from many hospitals, and no image leaves any of them."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from polyclinic.models.encoder import Encoder

__version__ = "0.1.0"
__all__ = ["__version__", "load_encoder"]


def load_encoder(path: str | Path) -> "Encoder":
    """The encoder in a folder that `polyclinic export` wrote, as a `torch.nn.Module` on the CPU.

    Called with images (B, 1 or 3, H, W) in 0..1 it gives a feature map a stage; `embed` gives one
    vector an image. Raises `polyclinic.errors.RunError` where the folder is something else, or
    holds anything that could run code. PyTorch is loaded now, not with the package.
    """
    from polyclinic.models.exporting import load_encoder as load

    return load(path)
