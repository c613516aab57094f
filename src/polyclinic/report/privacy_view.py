"""What a run spent of its privacy budgets, and under which assumptions that is true, in words."""

from typing import Any

from polyclinic.report import formats
from polyclinic.report.rows import Row
from polyclinic.run.claims import bound, limit_claim


def privacy(results: Row) -> dict[str, Any] | None:
    """Rows of what was spent, the assumptions behind them, and a limit that sites keep to
    themselves; None without a budget."""
    own = [(site["name"], row) for site in results["sites"] for row in site.get("privacy", [])]
    found = own + [("each site as a whole", row) for row in results.get("site_privacy", [])]
    asked = "site_privacy" in results or any("privacy" in site for site in results["sites"])
    limit = results.get("privacy_limit")
    if not asked and not limit:
        return None
    titles = {m["name"]: m["title"] for m in results["methods"]}
    return {
        "rows": [
            {
                "site": name,
                "method": titles.get(row["method"], row["method"]),
                "seed": row["seed"],
                "epsilon": f"{bound(row['epsilon'])} of {row['budget']:g}",
                "delta": f"{row['delta']:g}",
                "unit": row["unit"],
                "steps": formats.count(sum(steps["number"] for steps in row["steps"])),
            }
            for name, row in found
        ],
        "limit": _limit(limit) if limit else "",
        "assumptions": sorted({_assumptions(row) for _, row in found}),
    }


def _limit(limit: Row) -> str:
    return f"In each training, {limit_claim(limit)}. What is spent the server is not told."


def _assumptions(row: Row) -> str:
    return (
        f"Unit {row['unit']}: neighbours are data {row['neighbours']}. Sampling: "
        f"{row['sampling']}. Clip {row['clip']:g}. Accountant: {row['accountant']}."
    )
