"""How good a painter is so far, on patients that it is not trained on, and pictures of it."""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from polyclinic.inpaint.captions import LINE, write
from polyclinic.inpaint.components import COLOURS, KEEP
from polyclinic.inpaint.crops import Batch
from polyclinic.inpaint.intensity import as_picture
from polyclinic.inpaint.painter import Painter
from polyclinic.inpaint.training import region_loss, to_device
from polyclinic.seeding import generator

LEVELS = 8
"""Noise levels at which the loss is taken."""
SHOWN = 12
"""Crops in a picture."""


@torch.no_grad()
def validate(painter: Painter, batches: list[Batch], tumour_map_weight: float) -> dict[str, float]:
    """The loss over evenly spread levels, and the PSNR, dB, of the mean in the region, where the
    painter has one.

    For PSNR the intensities' range is 2 (-1 to 1). The noise is the same every time.
    """
    losses, errors = [], []
    for number, batch in enumerate(batches):
        moved = to_device(batch)
        gen = generator("validation", number)
        levels = (torch.arange(len(batch.x)) % LEVELS + 0.5) / LEVELS
        if painter.objective.name == "regression":
            levels = torch.ones(len(batch.x))  # it knows no other
        losses.append(
            float(
                region_loss(
                    painter.network, painter.objective, moved, gen, tumour_map_weight, levels
                )
            )
        )
        if painter.objective.name != "ddpm":
            fill = moved.request.fill_mask
            x = painter.mean(moved.request, 1, painter.objective.levels)
            squares = ((x - moved.x)[:, :1].square() * fill).sum((1, 2, 3))
            errors.append(squares / fill.sum((1, 2, 3)).clamp_min(1))
    scores = {"loss": float(np.mean(losses))}
    if errors:
        psnr = 10 * torch.log10(4 / torch.cat(errors).clamp_min(1e-8)).mean()
        scores["psnr_mean"] = float(psnr)
    return scores


@torch.no_grad()
def preview(painter: Painter, batch: Batch, steps: int = 8) -> Image.Image:
    """A picture with a row a crop, two crops side by side: image, what is asked for, painted, the
    tumour map's contour.

    Painted with `steps` steps, or as the mean by a painter that has nothing else.
    """
    request = to_device(batch).request
    levels = painter.objective.levels
    if painter.objective.name == "regression":
        x = painter.mean(request, 1, levels).cpu()
    else:
        gen = generator("preview")
        noise = torch.randn(batch.x.shape, generator=gen).to(request.known.device)
        x = painter.sample(request, noise, steps, levels).cpu()
    rows = [_row(batch, x, number) for number in range(min(SHOWN, len(x)))]
    half = (len(rows) + 1) // 2
    blank = np.zeros_like(rows[0])
    rows += [blank] * (2 * half - len(rows))
    sheet = np.concatenate([np.concatenate(rows[:half]), np.concatenate(rows[half:])], axis=1)
    crops = Image.fromarray(sheet)
    crops = crops.resize((2 * crops.width, 2 * crops.height), Image.Resampling.NEAREST)
    picture = Image.new("RGB", (crops.width, LINE + crops.height))
    picture.paste(crops, (0, LINE))
    columns = ("image", "asked for", "painted", "contour in a box") * 2
    for number, name in enumerate(columns):
        write(picture, name, x=number * crops.width // len(columns))
    return picture


def _row(batch: Batch, x: Tensor, number: int) -> NDArray[np.uint8]:
    image = as_picture(batch.x[number, 0].numpy())
    fill_map = batch.request.fill_map[number].numpy()
    asked = image.copy()
    for colour, component in COLOURS.items():
        asked[fill_map == component] = colour
    inside = fill_map != KEEP
    painted = np.where(inside[..., None], as_picture(x[number, 0].numpy()), image)
    chosen = painted.copy()
    box = batch.request.box_mask[number, 0].numpy() > 0
    chosen[box & (x[number, 1].numpy() > 0), 0] = 255
    return np.concatenate([image, asked, painted, chosen], axis=1)
