"""The few numbers of a run that fit on a terminal; everything else is in the report."""

from typing import Any

from polyclinic.cli.output import table
from polyclinic.run.roles import BASELINES, lead_method

PROTOCOLS = ("linear-probe", "fine-tune")


def summarise(results: dict[str, Any]) -> dict[str, Any]:
    """Mean scores over sites for each method, and the gains of the one that leads.

    `means`: method -> protocol -> mean over sites of the site's primary metric.
    `gains`: one entry for each baseline and protocol, with the mean and the worst site.
    """
    lead = lead_method(method["name"] for method in results["methods"])
    means: dict[str, dict[str, float | None]] = {}
    for method in results["methods"]:
        scores = {
            protocol: [
                row["value"]
                for row in results["scores"]
                if row["primary"]
                and row["method"] == method["name"]
                and row["protocol"] == protocol
                and row["value"] is not None
            ]
            for protocol in PROTOCOLS
        }
        means[method["name"]] = {p: sum(v) / len(v) if v else None for p, v in scores.items()}
    gains = []
    for over in BASELINES:
        for protocol in PROTOCOLS:
            rows = [
                row
                for row in results["gains"]
                if (row["method"], row["over"], row["protocol"]) == (lead, over, protocol)
                and row["value"] is not None
            ]
            if not rows:
                continue
            worst = min(rows, key=lambda row: float(row["value"]))
            gains.append(
                {
                    "method": lead,
                    "over": over,
                    "protocol": protocol,
                    "mean": sum(row["value"] for row in rows) / len(rows),
                    "worst_site": worst["site"],
                    "worst": worst["value"],
                    "worst_low": worst["low"],
                    "worst_high": worst["high"],
                }
            )
    return {
        "name": results["name"],
        "sites": len(results["sites"]),
        "seeds": len(results["seeds"]),
        "means": means,
        "gains": gains,
    }


def summary_text(results: dict[str, Any]) -> str:
    """`summarise` as tables."""
    summary = summarise(results)
    titles = {method["name"]: method["title"] for method in results["methods"]}
    rows = [
        [titles[name], *(_number(means[protocol], ".3f") for protocol in PROTOCOLS)]
        for name, means in summary["means"].items()
    ]
    seeds = "1 seed" if summary["seeds"] == 1 else f"{summary['seeds']} seeds"
    text = table(["method", *(p.replace("-", " ") for p in PROTOCOLS)], rows)
    text += (
        f"\nmean over {summary['sites']} sites and {seeds} of each site's own metric"
        " (AUROC, Dice or R2)"
    )
    if not summary["gains"]:
        return text
    rows = [
        [
            f"{titles[gain['method']]} over {titles.get(gain['over'], gain['over'])}",
            gain["protocol"].replace("-", " "),
            _number(gain["mean"], "+.3f"),
            gain["worst_site"],
            _number(gain["worst"], "+.3f"),
            f"{_number(gain['worst_low'], '+.3f')} to {_number(gain['worst_high'], '+.3f')}",
        ]
        for gain in summary["gains"]
    ]
    header = ["gain", "protocol", "mean", "worst site", "there", "95 % interval"]
    return f"{text}\n\n{table(header, rows)}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
