"""The result of the comparison on eight sites as Markdown, and its gains as a forest plot."""

from collections.abc import Mapping, Sequence

from drawings import standalone
from eight_sites_study import LEAD, Record
from eight_sites_summary import BOTH, TITLES
from markdown_table import table
from polyclinic.report.formats import points, points_interval
from polyclinic.report.plots import Interval, intervals

NAMES = {
    "linear-probe": "Linear probe",
    "k-nn": "Nearest neighbours",
    "5-labels": "5 labels a class",
    "10-labels": "10 labels a class",
    "50-labels": "50 labels a class",
    "fine-tune": "Fine-tuning",
}
DRAWN = ("mim", "local", "fedavg", "centralised")
"""Methods that the protocol has a bar for; the plot of all would be as long as a table."""


def markdown(result: Record) -> str:
    """Every table, a heading before each: the bars, then by protocol the scores and the gains."""
    parts = ["## What counts as success", table(*_bars(result["bars"]))]
    for protocol in result["protocols"]:
        scores = [row for row in result["scores"] if row["protocol"] == protocol]
        gains = [row for row in result["gains"] if row["protocol"] == protocol]
        compared = [row for row in result["comparisons"] if row["protocol"] == protocol]
        if not scores:
            continue
        name = NAMES[protocol]
        parts += [f"## {name}", table(*scores_table(scores, TITLES))]
        parts += [
            f"### {name}: {TITLES[LEAD]} over the others",
            table(*tests_table(compared, gains, TITLES)),
        ]
        parts += [f"### {name}: gains by site", table(*_gains(gains))]
    return "\n\n".join(parts) + "\n"


def forest(result: Record) -> str:
    """An SVG file: the gains at every site over the main rivals, with their intervals."""
    rows = [
        _interval(gain, f"{NAMES[protocol]}, {TITLES[over]}: {gain['site']}")
        for protocol in BOTH
        for over in DRAWN
        for gain in result["gains"]
        if (gain["protocol"], gain["over"]) == (protocol, over)
    ]
    drawn = intervals(
        rows,
        ident="forest",
        title=f"{TITLES[LEAD]}: gains over other methods",
        desc="A row for each protocol, method and site; the whisker is the 95 % interval.",
        axis="gain, points",
        zero=True,
        width=800,
        label_width=330,
        text_width=170,
    )
    return standalone(drawn)


def _interval(gain: Record, label: str) -> Interval:
    """A row of the plot; hollow where the interval holds zero or is not known."""
    low, high = gain["low"], gain["high"]
    unclear = low is None or high is None or low <= 0 <= high
    tone = "open" if unclear else "up" if gain["value"] > 0 else "down"
    value, low, high = (
        None if gain[key] is None else 100 * gain[key] for key in ("value", "low", "high")
    )
    return Interval(label, value, low, high, _points(gain), tone, unclear)


def _points(gain: Record) -> str:
    limits = points_interval(gain["low"], gain["high"])
    return points(gain["value"]) + (f" ({limits})" if limits else "")


def _bars(bars: Sequence[Record]) -> tuple[list[str], list[list[str]]]:
    rows = []
    for bar in bars:
        said = [
            f"{NAMES[one['protocol']].lower()}: {one['sites_won']} of {one['sites']} sites, mean "
            f"{one['mean_gain']:+.3f}, worst {one['worst_site']} {one['worst_gain']:+.3f}, "
            f"p {_p(one['p_sites'])} ({_p(one['p_sites_holm'])} after Holm's correction)"
            for one in bar["measured"]
        ]
        if "bytes" in bar and "undecided" not in bar["bytes"]:
            share = bar["bytes"]["share"]
            said.append(
                "its final score is not reached" if share is None
                else f"its final score with {100 * share:.0f} % of its bytes"
            )  # fmt: skip
        verdict = {True: "yes", False: "no", None: f"undecided: {bar.get('undecided')}"}
        against = TITLES.get(bar["against"], bar["against"])
        rows.append([against, bar["bar"], "; ".join(said), verdict[bar["pass"]]])
    return ["Against", "Bar", "Measured", "Reached"], rows


def scores_table(
    rows: Sequence[Record], titles: Mapping[str, str]
) -> tuple[list[str], list[list[str]]]:
    """Methods by sites, the highest at each site in bold."""
    table = _by_method(rows, "method")
    sites = list(dict.fromkeys(row["site"] for row in rows))
    columns = {site: [own[site]["value"] for own in table.values()] for site in sites}
    means = {method: _mean([own[site]["value"] for site in sites]) for method, own in table.items()}
    columns[""] = list(means.values())

    def shown(value: float | None, site: str) -> str:
        known = [other for other in columns[site] if other is not None]
        text = "" if value is None else f"{value:.3f}"
        return f"**{text}**" if text and text == f"{max(known):.3f}" else text

    lines = []
    for method, own in table.items():
        cells = [shown(own[site]["value"], site) for site in sites]
        lines.append([titles[method], *cells, shown(means[method], "")])
    return ["Method", *sites, "mean"], lines


def _gains(rows: Sequence[Record]) -> tuple[list[str], list[list[str]]]:
    """Other methods by sites; intervals in brackets."""
    table = _by_method(rows, "over")
    sites = list(dict.fromkeys(row["site"] for row in rows))
    return ["Over", *sites], [
        [TITLES[method], *(_gain(own[site]) for site in sites)] for method, own in table.items()
    ]


def tests_table(
    compared: Sequence[Record], gains: Sequence[Record], titles: Mapping[str, str]
) -> tuple[list[str], list[list[str]]]:
    """Mean gain, sites won, the worst site, and p over sites, of each other method."""
    rows = []
    for one in compared:
        own = [g for g in gains if g["over"] == one["over"] and g["value"] is not None]
        worst = min(own, key=lambda gain: gain["value"])
        rows.append(
            [
                titles[one["over"]],
                f"{one['mean_gain']:+.3f}",
                f"{one['sites_won']} of {one['sites']}",
                f"{worst['site']} {_gain(worst)}",
                _p(one["p_sites"]),
                _p(one["p_sites_holm"]),
            ]
        )
    return ["Over", "Mean gain", "Sites won", "Worst site", "p", "p after Holm"], rows


def _gain(row: Record) -> str:
    if row["value"] is None:
        return ""
    known = row["low"] is not None and row["high"] is not None
    return f"{row['value']:+.3f}" + (f" ({row['low']:+.3f} to {row['high']:+.3f})" if known else "")


def _p(value: float) -> str:
    """Two digits that count."""
    return f"{value:.2g}"


def _by_method(rows: Sequence[Record], key: str) -> dict[str, dict[str, Record]]:
    table: dict[str, dict[str, Record]] = {}
    for row in rows:
        table.setdefault(row[key], {})[row["site"]] = row
    return table


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) and known else None
