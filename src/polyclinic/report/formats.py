"""How the report writes numbers: one place, so that every table and plot agrees.

Scores have three decimals. Differences are in points (100 times the difference of the metric) with
one decimal and a sign. Missing values are an en dash. Thousands and units are set off by thin
spaces that do not break; the minus is the typographic one.
"""

import math

from polyclinic.run import traffic

MISSING = "\u2013"
MINUS = "\u2212"
TIMES = "\u00d7"
THIN = "\u202f"  # narrow, non-breaking


def score(value: float | None) -> str:
    """A metric, such as 0.873."""
    return MISSING if value is None else _minus(f"{value:.3f}")


def score_interval(low: float | None, high: float | None) -> str:
    """An interval of a metric, such as "0.851 to 0.893"; empty when it is unknown."""
    return "" if low is None or high is None else f"{score(low)} to {score(high)}"


def points(difference: float | None, *, signed: bool = True) -> str:
    """A difference of a metric in points, such as +1.3; what rounds to zero has no sign."""
    if difference is None:
        return MISSING
    value = round(100 * difference, 1)
    return "0.0" if value == 0 else _minus(f"{value:+.1f}" if signed else f"{value:.1f}")


def points_interval(low: float | None, high: float | None) -> str:
    """An interval of a difference in points, such as "-2.1 to 0.4"; empty when it is unknown."""
    if low is None or high is None:
        return ""
    return f"{points(low, signed=False)} to {points(high, signed=False)}"


def p_value(p: float | None) -> str:
    """A p-value; never rounded across 0.05, so that the text and the verdict agree."""
    if p is None:
        return MISSING
    if p < 0.001:
        return f"<{THIN}0.001"
    text = f"{p:.3f}"
    if p < 0.05 and text == "0.050":
        return f"{math.floor(p * 1e4) / 1e4:.4f}"
    return text


def count(value: float | None) -> str:
    """A whole number with thin spaces between thousands, from five digits on."""
    if value is None:
        return MISSING
    text = f"{round(value):,}"
    return _minus(text.replace(",", "" if abs(value) < 10_000 else THIN))


def data_size(size: float | None) -> str:
    """Bytes in decimal units, such as "12.3 MB"."""
    return MISSING if size is None else traffic.data_size(size).replace(" ", THIN)


def memory(mib: float | None) -> str:
    """MiB, or GiB from 1024 on."""
    if mib is None:
        return MISSING
    return f"{mib:.0f}{THIN}MiB" if mib < 1024 else f"{mib / 1024:.1f}{THIN}GiB"


def duration(seconds: float | None) -> str:
    """Seconds in the two largest units, such as "1 h 05 min"."""
    if seconds is None:
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f}{THIN}s" if seconds < 10 else f"{seconds:.0f}{THIN}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}{THIN}min{THIN}{whole % 60:02d}{THIN}s"
    minutes = round(seconds / 60)
    return f"{minutes // 60}{THIN}h{THIN}{minutes % 60:02d}{THIN}min"


def percent(share: float | None) -> str:
    """A share of one as whole per cent."""
    return MISSING if share is None else f"{100 * share:.0f}{THIN}%"


def plain(value: object) -> str:
    """A configuration value as a person reads it."""
    if value is None or value == "":
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return _minus(f"{value:g}")
    if isinstance(value, list):
        return ", ".join(plain(item) for item in value) if value else "none"
    return str(value)


def _minus(text: str) -> str:
    return text.replace("-", MINUS)
