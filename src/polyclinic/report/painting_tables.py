"""The questions that a painter's report answers, in words, and how their numbers are written."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from polyclinic.evaluate.painting.texture import TEXTURE_FEATURES
from polyclinic.report import formats

KINDS = {
    "infill": "Tumour-free regions",
    "volume": "Volumes of tumour-free tissue",
    "tumour": "Tumours",
}


@dataclass(frozen=True)
class Question:
    """One section: the name of its table in results.json, and its measures with their headings.
    `shown` is drawn as a plot, over the entries that are grouped by `shown_by`."""

    table: str
    title: str
    note: str
    measures: Mapping[str, str]
    shown: str | None = None
    shown_by: str = "all"
    kinds: Mapping[str, str] = field(default_factory=lambda: KINDS)


QUESTIONS = (
    Question(
        "infill",
        "How near is tumour-free tissue to what was there?",
        "Inside regions where no tumour is, so that the truth is known. Intensities run from "
        "\u22121 to 1. The mean is nearest to the truth and smoother than it.",
        {
            "psnr": "PSNR, dB",
            "ssim": "SSIM",
            "mse": "MSE",
            "found_tumour": "taken for tumour",
        },
        shown="psnr",
    ),
    Question(
        "differences",
        "Which variant is better, edit by edit?",
        "Each variant minus the first one, on the tumour-free regions that both painted.",
        {"psnr": "PSNR, dB", "ssim": "SSIM", "mse": "MSE", "seconds": "seconds a slice"},
    ),
    Question(
        "challenge",
        "The same as the BraTS inpainting challenge measures it",
        "Regions through neighbouring slices; intensities scaled by percentiles of the voided "
        "volume; slices along the first axis. The last column is the step from slice to slice "
        "over the real one: 1 is as consistent as the scanner.",
        {
            "challenge_ssim": "SSIM",
            "challenge_psnr": "PSNR, dB",
            "challenge_psnr_01": "PSNR of 0..1, dB",
            "challenge_mse": "MSE",
            "between_slices": "between slices",
        },
    ),
    Question(
        "components",
        "Is a painted component what was asked for?",
        "A segmenter that knows nothing of the painter, on painted slices and on the same slices "
        "as they were scanned. It sees all sequences that were painted together.",
        {
            "dice": "Dice, painted",
            "dice_real": "Dice, real",
            "dice_ratio": "ratio",
            "as_another": "taken for another",
            "as_another_real": "the same, real",
            "as_none": "taken for none",
        },
        shown="dice_ratio",
        shown_by="component",
    ),
    Question(
        "seams",
        "Does the border show?",
        "The step across the border over the real one there (1: as steep), and the AUC with which "
        "a classifier tells painted borders from the same borders in the real slices (0.5: it "
        "cannot).",
        {"seam_ratio": "gradient ratio", "ring_auc": "ring AUC"},
        shown="ring_auc",
    ),
    Question(
        "diversity",
        "Do seeds give different images?",
        "Of the same region: the root mean square difference of two samples, and the standard "
        "deviation over samples, in intensities.",
        {"diversity": "difference", "deviation": "deviation"},
    ),
    Question(
        "containment",
        "Does it stay inside?",
        "Pixels changed outside of the region, and the share of the tumour that lies in its box: "
        "as the model says, and as the segmenter sees it.",
        {
            "changed_outside": "pixels changed outside",
            "containment": "in the box",
            "containment_found": "in the box, segmenter",
            "containment_found_real": "the same, real",
            "filled": "box filled",
            "filled_real": "the same, real",
        },
    ),
    Question(
        "features",
        "Do painted regions look real as a population?",
        "KID in the features of the encoder named above (0: no difference), and statistics of "
        "texture, in standard deviations from the real ones.",
        {"kid": "KID"} | {f"texture: {name}": name for name in TEXTURE_FEATURES},
    ),
    Question(
        "copies",
        "Is it copied from the training images?",
        "Regions nearer to a training image than 95 % of real held-out regions are.",
        {
            "copies": "nearer than that",
            "copies_real": "of real ones",
            "nearest": "distance",
            "nearest_real": "of real ones",
        },
    ),
    Question(
        "time",
        "What does it cost?",
        "One slice at a time, weights loaded, on this machine.",
        {"calls": "network evaluations", "seconds": "seconds a slice"},
        shown="seconds",
    ),
)

_DECIMALS = {
    "psnr": 2,
    "challenge_psnr": 2,
    "challenge_psnr_01": 2,
    "mse": 4,
    "challenge_mse": 5,
    "kid": 4,
    "calls": 0,
    "changed_outside": 2,
}


def number(measure: str, value: float) -> str:
    """A value with as many decimals as its measure needs."""
    return f"{value:.{_DECIMALS.get(measure, 3)}f}".replace("-", formats.MINUS)
