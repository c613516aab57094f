"""What the report says in words: careful, plain, and the same for every run.

The rules: a difference is called significant only where Holm's adjusted p is below 0.05; the word
for a better score is "higher", not "better"; the worst site is always named.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from polyclinic.report import formats
from polyclinic.report.rows import sign

ALPHA = 0.05
PROTOCOLS = {"fine-tune": "fine-tune", "linear-probe": "linear probe"}
"""In order of importance: a hospital that takes the model over will fine-tune it."""

METRICS = {
    "auroc": "AUROC",
    "balanced_accuracy": "balanced accuracy",
    "dice": "Dice",
    "r2": "R\u00b2",
    "primary": "main metric",
}
TASKS = {
    "single-label": "classification, one label",
    "multi-label": "classification, several labels",
    "regression": "regression",
    "segmentation": "segmentation",
}
JUDGED = {
    "told": "told",
    "kept": "not told: the site keeps them, or they are not defined",
    "absent": "none: it was absent",
}
ROWS = Sequence[Mapping[str, Any]]

GLOSSARY = (
    (
        "Linear probe",
        "The encoder stays as it is; only a small final layer is fitted on the site\u2019s data. "
        "It shows what the encoder already knows.",
    ),
    (
        "Fine-tune",
        "Encoder and final layer are both trained further on the site\u2019s own data, "
        "as a hospital that adopts the model would do.",
    ),
    (
        "Gain",
        "The score with this method minus the score with the method compared, at the same site. "
        "One point is one hundredth of the metric\u2019s range from 0 to 1.",
    ),
    (
        "95\u202f% interval",
        "The range of values that the limited number of test images leaves plausible "
        "(bootstrap). If the interval of a gain includes 0, no difference has been shown there.",
    ),
    (
        "AUROC",
        "How well the model ranks images with a finding above those without: "
        "0.5 is chance, 1 is perfect. Averaged over classes.",
    ),
    ("Dice", "Overlap of the predicted region with the drawn one: 0 is none, 1 is perfect."),
    ("R\u00b2", "Share of a measured quantity\u2019s variation that the prediction explains."),
    (
        "p (Holm)",
        "How surprising the wins and losses would be if the methods were equal, "
        "adjusted for the number of comparisons. Below 0.05 counts as significant.",
    ),
)


def subject(method: Mapping[str, Any]) -> str:
    """How a sentence begins that speaks about a method."""
    return "The universal model" if method["name"] == "universal" else str(method["title"])


def compared_with(name: str, titles: Mapping[str, str]) -> str:
    """What a method is compared with, as it stands within a sentence."""
    phrases = {
        "local": "working alone",
        "mim": "the public starting model (MIM)",
    }
    return phrases.get(name, titles.get(name, name))


def headline(who: str, whom: str, gains: ROWS) -> str:
    """The page's first sentence, from the gains of one method over one other, one per site."""
    measured = sorted((g for g in gains if g["value"] is not None), key=lambda g: g["value"])
    if not measured:
        return f"This run holds no measured gain of {_lower(who)} over {whom}"
    worst = measured[0]
    interval = _interval(worst)
    if len(measured) == 1:
        return f"{who} {_change(worst['value'])} over {whom} at {worst['site']}{interval}"
    up = sum(sign(g["value"]) > 0 for g in measured)
    missing = len(gains) - len(measured)
    sites = f"{len(measured)} measured sites" if missing else f"{len(measured)} sites"
    share = f"all {sites}" if up == len(measured) else f"{up or 'none'} of {sites}"
    if up == len(measured):
        tail = f"the smallest gain, at {worst['site']}, is {_amount(worst['value'])}"
    else:
        tail = f"the worst, {worst['site']}, {_change(worst['value'])}"
    return f"{who} scores higher than {whom} at {share}; {tail}{interval}"


def certainty(gains: ROWS) -> str:
    """How many of the sites' intervals say something."""
    known = [g for g in gains if g["low"] is not None and g["high"] is not None]
    if not known:
        return "No interval is available."
    above = sum(g["low"] > 0 for g in known)
    below = sum(g["high"] < 0 for g in known)
    if len(known) == 1:
        place = "lies wholly above" if above else "lies wholly below" if below else "includes"
        return f"The interval {place} zero."
    open_ = len(known) - above - below
    text = f"Of {len(known)} intervals, {above} lie"
    text = text + ("s" if above == 1 else "") + f" wholly above zero, {below} wholly below"
    return f"{text}; {open_} {'includes' if open_ == 1 else 'include'} zero."


def significance(comparison: Mapping[str, Any] | None) -> str:
    """A sentence on the test over all sites and seeds; never more than Holm's p allows."""
    if comparison is None:
        return "No significance test is available for this comparison."
    pairs = f"{comparison['wins']} of {comparison['n']} {_plural(comparison['n'], 'pair')} won"
    p = f"Holm-adjusted p {_equals(comparison['p_holm'])}"
    mean = f"mean gain {_size(comparison['mean_gain'], signed=True)}"
    if comparison["p_holm"] is None:
        return f"Over all sites and seeds: {mean}, {pairs}; not enough pairs for a test."
    if not is_significant(comparison):
        return (
            f"Over all sites and seeds the difference is not statistically significant "
            f"({mean}, {pairs}, {p})."
        )
    direction = "gain" if (comparison["mean_gain"] or 0) > 0 else "loss"
    return (
        f"Over all sites and seeds the {direction} is statistically significant "
        f"({mean}, {pairs}, {p})."
    )


def verdict(comparison: Mapping[str, Any]) -> str:
    """The last column of the table of comparisons."""
    if comparison["p_holm"] is None:
        return "not tested"
    if not is_significant(comparison):
        return "no difference shown"
    return "higher" if (comparison["mean_gain"] or 0) > 0 else "lower"


def is_significant(comparison: Mapping[str, Any]) -> bool:
    """Whether Holm's adjusted p is below 0.05."""
    p = comparison["p_holm"]
    return p is not None and p < ALPHA


def metric(name: str) -> str:
    """A metric\u2019s name as a person writes it."""
    return METRICS.get(name, name.replace("_", " "))


def _change(value: float) -> str:
    if sign(value) == 0:
        return "neither gains nor loses (0.0 points)"
    return f"{'gains' if sign(value) > 0 else 'loses'} {_amount(abs(value))}"


def _amount(value: float) -> str:
    """A gain above zero: one that would be printed as 0.0 is still there."""
    text = _size(value)
    return "less than 0.1 points" if text == "0.0 points" else text


def _size(value: float | None, *, signed: bool = False) -> str:
    text = formats.points(value, signed=signed)
    return f"{text} point" if text in ("1.0", "+1.0") else f"{text} points"


def _interval(gain: Mapping[str, Any]) -> str:
    text = formats.points_interval(gain["low"], gain["high"])
    return f" (95\u202f% interval {text})" if text else ""


def _equals(p: float | None) -> str:
    text = formats.p_value(p)
    return text if text.startswith("<") else f"= {text}"


def _plural(number: int, noun: str) -> str:
    return noun if number == 1 else f"{noun}s"


def _lower(who: str) -> str:
    return who.replace("The universal", "the universal", 1)
