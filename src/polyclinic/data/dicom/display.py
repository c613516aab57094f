"""Stored values to what a screen would show: 0..255, black is black, colours are RGB."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyclinic.data.dicom.groups import group
from polyclinic.data.dicom.header import quiet, reason_of, text
from polyclinic.data.dicom.pixels import GREY, Frame
from polyclinic.data.images import HIGH_PERCENTILE, LOW_PERCENTILE, scale
from polyclinic.errors import DataError

_WHOLE_RANGE = 8
"""Up to so many bits all values that can be stored are shown; more are windowed."""


def real_values(dataset: Any, frame: Frame, number: int) -> NDArray[np.float64]:
    """Stored values (H, W) of frame `number` in the units of the scanner, such as HU.

    By the Modality LUT, or else by Rescale Slope and Intercept (PS3.3 C.11.1).
    """
    if dataset.get("ModalityLUTSequence"):
        from pydicom.pixels.processing import apply_modality_lut

        looked_up: NDArray[np.float64] = apply_modality_lut(frame.values, dataset)
        return looked_up.astype(np.float64)
    slope, intercept = _rescaling(dataset, number)
    return frame.values * slope + intercept


def display(dataset: Any, frame: Frame, number: int, name: str) -> NDArray[np.uint8]:
    """Frame `number` as uint8, (H, W) grey or (H, W, 3) RGB.

    Grey: real values through the first window, or else the first VOI LUT (PS3.3 C.11.2.1). Where
    there is none, or it leaves one single grey of many: the whole range up to 8 bits, otherwise
    percentiles 0.5 and 99.5. MONOCHROME1 is inverted, padding is black. Raises `DataError`, which
    calls the file `name`.
    """
    try:
        with quiet():
            if frame.photometric == "PALETTE COLOR":
                return _palette(dataset, frame)
            if frame.values.ndim == 3 and frame.photometric == "RGB":
                return _whole_range(frame.values, frame)
            if frame.values.ndim == 2 and frame.photometric in GREY:
                return _grey(dataset, frame, number)
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    except Exception as error:  # values in headers can be wrong in many ways
        raise DataError(f"{name}: its DICOM header cannot be used ({reason_of(error)})") from None
    raise DataError(
        f"{name}: pixels in {frame.photometric or 'nothing'}; expected MONOCHROME, PALETTE COLOR, "
        "RGB or YBR"
    )


def window(
    values: NDArray[np.float64], centre: float, width: float, function: str = "LINEAR"
) -> NDArray[np.uint8]:
    """The VOI LUT functions LINEAR, LINEAR_EXACT and SIGMOID (PS3.3 C.11.2.1.2 and .3)."""
    if function == "SIGMOID":
        slope = np.clip(-4 * (values - centre) / width, -700, 700)
        share = 1 / (1 + np.exp(slope))
    elif function == "LINEAR_EXACT":
        share = (values - centre) / width + 0.5
    elif width == 1:
        share = (values > centre - 0.5).astype(np.float64)
    else:
        share = (values - (centre - 0.5)) / (width - 1) + 0.5
    shown: NDArray[np.uint8] = np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)
    return shown


def _grey(dataset: Any, frame: Frame, number: int) -> NDArray[np.uint8]:
    real = real_values(dataset, frame, number)
    if not np.isfinite(real).all():
        raise DataError("pixels that are NaN or infinite")
    padding = _padding(dataset, frame)
    shown = _of_interest(dataset, real, number)
    seen = ~padding
    if shown is None or not seen.any() or np.ptp(shown[seen]) == 0:
        shown = _without_window(real, frame, padding, _rescaling(dataset, number))
    if frame.photometric == "MONOCHROME1":
        shown = 255 - shown
    shown[padding] = 0
    return shown


def _of_interest(dataset: Any, real: NDArray[np.float64], number: int) -> NDArray[np.uint8] | None:
    voi = group(dataset, "FrameVOILUTSequence", number)
    centre, width = _first(voi, "WindowCenter"), _first(voi, "WindowWidth")
    function = text(voi, "VOILUTFunction") or "LINEAR"
    least = 1.0 if function == "LINEAR" else 0.0
    if centre is not None and width is not None and width >= least and width > 0:
        return window(real, centre, width, function)
    if not voi.get("VOILUTSequence"):
        return None
    from pydicom.pixels.processing import apply_voi

    bits = int(voi.VOILUTSequence[0].LUTDescriptor[2])
    looked_up = apply_voi(np.rint(real).astype(np.int64), voi)
    return scale(looked_up, 0, 2**bits - 1)


def _without_window(
    real: NDArray[np.float64],
    frame: Frame,
    padding: NDArray[np.bool_],
    rescaling: tuple[float, float],
) -> NDArray[np.uint8]:
    if 0 < frame.bits <= _WHOLE_RANGE:
        slope, intercept = rescaling
        ends = [limit * slope + intercept for limit in _limits(frame)]
        return scale(real, min(ends), max(ends))
    seen = real if padding.all() else real[~padding]
    low, high = np.percentile(seen, (LOW_PERCENTILE, HIGH_PERCENTILE))
    if low == high:
        low, high = seen.min(), seen.max()
    return scale(real, float(low), float(high))


def _whole_range(values: NDArray[Any], frame: Frame) -> NDArray[np.uint8]:
    low, high = _limits(frame)
    if (low, high) == (0, 255):
        return values.astype(np.uint8)
    return scale(values.astype(np.float64), low, high)


def _palette(dataset: Any, frame: Frame) -> NDArray[np.uint8]:
    from pydicom.pixels.processing import apply_color_lut

    colours: NDArray[Any] = apply_color_lut(frame.values, dataset)
    if colours.dtype == np.uint8:
        return colours[..., :3]
    shown: NDArray[np.uint8] = (colours[..., :3] >> 8).astype(np.uint8)
    return shown


def _limits(frame: Frame) -> tuple[float, float]:
    if frame.signed:
        return -float(2 ** (frame.bits - 1)), float(2 ** (frame.bits - 1) - 1)
    return 0.0, float(2**frame.bits - 1)


def _rescaling(dataset: Any, number: int) -> tuple[float, float]:
    values = group(dataset, "PixelValueTransformationSequence", number)
    slope, intercept = _first(values, "RescaleSlope"), _first(values, "RescaleIntercept")
    return slope or 1.0, intercept or 0.0  # a slope of 0 would leave nothing


def _padding(dataset: Any, frame: Frame) -> NDArray[np.bool_]:
    """Pixels outside of what was scanned (PS3.3 C.7.5.1.1.2), bool (H, W)."""
    value, limit = _first(dataset, "PixelPaddingValue"), _first(dataset, "PixelPaddingRangeLimit")
    if value is None or not frame.bits:
        return np.zeros(frame.values.shape, np.bool_)
    if frame.signed and value >= 2 ** (frame.bits - 1):  # stored without its sign
        value -= 2**frame.bits
    ends = (value, value if limit is None else limit)
    found: NDArray[np.bool_] = (frame.values >= min(ends)) & (frame.values <= max(ends))
    return found


def _first(dataset: Any, keyword: str) -> float | None:
    """The first number of an element; None where it is missing or no number."""
    try:
        value = dataset.get(keyword)
        if value is None or isinstance(value, str | bytes):
            return float(value) if value else None
        numbers = value if hasattr(value, "__iter__") else [value]
        number = float(next(iter(numbers)))
    except Exception:  # conversion of a value can fail as parsing can
        return None
    return number if np.isfinite(number) else None
