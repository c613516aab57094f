"""One universal medical-imaging model from many hospitals, and no image leaves any of them."""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from polyclinic.inpaint.paint import PaintedImage
    from polyclinic.inpaint.painter import Painter
    from polyclinic.models.encoder import Encoder

__version__ = "0.1.0"
__all__ = ["__version__", "load_encoder", "paint"]


def load_encoder(path: str | Path) -> "Encoder":
    """The encoder in a folder that `polyclinic export` wrote, as a `torch.nn.Module` on the CPU.

    Called with images (B, 1 or 3, H, W) in 0..1 it gives a feature map a stage; `embed` gives one
    vector an image. Raises `polyclinic.errors.RunError` where the folder is something else, or
    holds anything that could run code. PyTorch is loaded now, not with the package.
    """
    from polyclinic.models.exporting import load_encoder as load

    return load(path)


def paint(
    image: "str | PathLike[str] | NDArray[Any] | Mapping[str, NDArray[Any]]",
    regions: "Sequence[tuple[str | PathLike[str] | NDArray[Any], str | None]]",
    *,
    sequence: str | None = None,
    box: bool = False,
    slices: tuple[int, int] | None = None,
    steps: int = 4,
    guidance: float = 1.5,
    mode: Literal["sample", "mean"] = "sample",
    seed: int = 0,
    painter: "str | PathLike[str] | Painter | None" = None,
    out: "str | PathLike[str] | None" = None,
    force: bool = False,
) -> "PaintedImage":
    """Paint `regions` into `image`, as `polyclinic inpaint edit` does, and by the same code.

    Only `--samples` has no counterpart: for several, call it with several seeds.

    `image` is a path that the command takes, or an array of any real type: one axial slice (H, W)
    or several (Z, H, W), Z from the feet up, rows from the front of the head to its back; or
    several sequences of such a shape by name, which are painted with the same shapes. `regions`
    are pairs. The first is `box:x0,y0,x1,y1`, the path of a mask or drawing, or an array of
    booleans or whole numbers, (H, W) or (Z, H, W) in the image's axial slices, where all but 0 is
    painted. The second names the component; None where a drawing's colours say it, `labels` where
    the labels of BraTS do. `slices` (first, after the last) is needed where one slice of a region
    meets several of an image.

    `out`, a file or a folder, writes what the command writes; only for paths. `painter` is a file,
    None for the package's own, or a `Painter` of `polyclinic.inpaint.edit.open_painter`, which
    saves the reading. Nothing is printed: warnings are in the record. Raises `ConfigError`,
    `DataError` and `RunError` of `polyclinic.errors`. PyTorch is loaded now, not with the package.
    """
    from polyclinic.inpaint.paint import paint as paint_now

    return paint_now(
        image,
        regions,
        sequence=sequence,
        box=box,
        slices=slices,
        steps=steps,
        guidance=guidance,
        mode=mode,
        seed=seed,
        painter=painter,
        out=out,
        force=force,
    )
