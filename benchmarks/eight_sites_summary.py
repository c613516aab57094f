"""What the cells of the comparison on eight sites say: scores, gains, tests, and what was aimed at.

Everything follows from the predictions; intervals draw the same patients as those of the run.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from eight_sites_pack import Pack
from eight_sites_study import JUDGED_BY, LEAD, SINGLE, Record
from polyclinic.evaluate.bootstrap import cluster_weights, interval, paired_gain
from polyclinic.evaluate.metrics import Predictions, Weights, primary_metric
from polyclinic.evaluate.statistics import compare
from polyclinic.federation.methods import TITLES as METHOD_TITLES
from polyclinic.run.judging import estimate_json

Found = Mapping[tuple[str, str, str], Sequence[Predictions]]
"""Method, protocol, site: the predictions of each seed, in the order of the seeds."""
TITLES = {**METHOD_TITLES, SINGLE: "Best single source"}
SITES, SEEDS = 8, 5
"""What the protocol asks for; with less, nothing of it is decided."""
BOTH = ("linear-probe", "fine-tune")
"""The protocols that a bar is about where it names none."""
ALL_WON = 2 / 2**SITES  # two-sided p where all eight differences have one sign
ALPHA = 0.05
WORST_OVER_LOCAL, NEAR_POOLED, SHARE_OF_BYTES = -0.002, -0.005, 0.1

BARS = {
    "mim": "all 8 sites won by linear probe, and by fine-tuning (p 0.0078 each)",
    "local": "at least 7 of 8, the worst no lower than -0.002",
    "fedavg": "better on average, p below 0.05; its final score with a tenth of its bytes",
    "centralised": "mean within 0.005",
    "left-out sites, 10 labels a class": "above masked image modelling and the best single "
    "source at 6 of 8",
}
"""The table of docs/protocol.md, by what is compared with."""


def read(packs: Sequence[Pack]) -> Found:
    """The predictions of every cell, seed by seed."""
    return {cell: [pack.cells[cell] for pack in packs] for cell in packs[0].cells}


def scores(found: Found, draws: Mapping[str, Weights]) -> list[Record]:
    """Each site's own metric: the mean over seeds, its interval, and every seed's value.

    `draws` weigh the test images of each site, as `weights` gives them.
    """
    rows = []
    for (method, protocol, site), by_seed in found.items():
        metric = primary_metric(by_seed[0].task)
        row = {"method": method, "protocol": protocol, "site": site, "metric": metric}
        rows.append(row | estimate_json(interval(by_seed, metric, draws[site])))
    return rows


def gains(found: Found, draws: Mapping[str, Weights], lead: str = LEAD) -> list[Record]:
    """How much better the encoder of `lead` is than each other, paired by patient and seed."""
    rows = []
    for (method, protocol, site), theirs in found.items():
        if method == lead:
            continue
        metric = primary_metric(theirs[0].task)
        gain = paired_gain(found[lead, protocol, site], theirs, metric, draws[site])
        row = {"over": method, "protocol": protocol, "site": site, "metric": metric}
        rows.append(row | estimate_json(gain))
    return rows


def weights(found: Found, resamples: int, seed: int) -> dict[str, Weights]:
    """How often each test image counts in each resample, for each site: those of the run."""
    patients = {site: by_seed[0].clusters for (_, _, site), by_seed in found.items()}
    return {site: cluster_weights(own, resamples, seed) for site, own in patients.items()}


def comparisons(rows: Sequence[Record], seeds: Sequence[int], lead: str = LEAD) -> list[Record]:
    """Wilcoxon's test over the sites, two-sided, Holm's correction within each protocol.

    `rows` are those of `scores`; `p_sites` is the test on the means over seeds. A site where a
    seed's score is not defined counts with the others.
    """
    found = []
    for protocol in JUDGED_BY:
        units = {
            (row["method"], row["site"], seed): value
            for row in rows
            if row["protocol"] == protocol
            for seed, value in zip(seeds, row["per_seed"], strict=True)
            if value is not None
        }
        others = list(dict.fromkeys(method for method, _, _ in units if method != lead))
        for comparison in compare(units, lead, others) if others else ():
            found.append({"protocol": protocol, **dataclasses.asdict(comparison)})
    return found


def bars(
    compared: Sequence[Record], gained: Sequence[Record], bytes_: Record, seeds: int
) -> list[Record]:
    """Each bar of the protocol: what was measured, and whether it was reached.

    `pass` is null where it cannot be told, and `undecided` says why. Where the protocol names no
    way of judging, linear probe and fine-tuning must both reach it. p is Wilcoxon's own; with
    Holm's correction of ten comparisons over eight sites none could be below 0.05.
    """
    found: list[Record] = []
    for over, text in BARS.items():
        measured = [_measured(over, p, compared, gained) for p in BOTH] if over in _REACHED else []
        known = [row for row in measured if row is not None]
        row: Record = {"against": over, "bar": text, "measured": known}
        if over not in _REACHED:
            row |= {"pass": None, "undecided": "judged by runs that leave a site out, not here"}
        elif len(known) < len(BOTH):
            row |= {"pass": None, "undecided": f"{over} was not among the methods"}
        elif seeds < SEEDS or any(one["sites"] < SITES for one in known):
            asked = f"{SITES} sites and {SEEDS} seeds"
            row |= {
                "pass": None,
                "undecided": f"expected {asked}, got {known[0]['sites']}, {seeds}",
            }
            row["measured"] = [{**one, "pass": None} for one in known]
        else:
            row["pass"] = all(one["pass"] for one in known)
        if over == "fedavg":
            row["bytes"] = bytes_
            _with_bytes(row, bytes_)
        found.append(row)
    return found


def _measured(
    over: str, protocol: str, compared: Sequence[Record], gained: Sequence[Record]
) -> Record | None:
    """One bar by one protocol."""
    rows = [row for row in compared if row["over"] == over and row["protocol"] == protocol]
    own = [
        row
        for row in gained
        if row["over"] == over and row["protocol"] == protocol and row["value"] is not None
    ]
    if not rows or not own:
        return None
    worst = min(own, key=lambda row: row["value"])
    columns = ("protocol", "sites_won", "sites", "mean_gain", "p_sites", "p_sites_holm")
    said = {name: rows[0][name] for name in columns}
    said |= {"worst_site": worst["site"], "worst_gain": worst["value"]}
    return said | {"pass": bool(_REACHED[over](said))}


_REACHED = {
    "mim": lambda m: m["sites_won"] == SITES and m["p_sites"] <= ALL_WON + 1e-9,
    "local": lambda m: m["sites_won"] >= SITES - 1 and m["worst_gain"] >= WORST_OVER_LOCAL,
    "fedavg": lambda m: m["mean_gain"] > 0 and m["p_sites"] < ALPHA,
    "centralised": lambda m: m["mean_gain"] >= NEAR_POOLED,
}
"""Whether what `_measured` found reaches the bar."""


def _with_bytes(row: Record, bytes_: Record) -> None:
    """The second half of the bar against FedAvg: missed is missed, whatever is unknown."""
    if row["pass"] is None:
        return
    if "undecided" in bytes_:
        if row["pass"]:
            row |= {"pass": None, "undecided": bytes_["undecided"]}
        return
    share = bytes_["share"]
    row["pass"] = row["pass"] and share is not None and share <= SHARE_OF_BYTES
