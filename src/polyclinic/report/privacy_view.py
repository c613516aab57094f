"""What a run spent of its privacy budgets, and under which assumptions that is true, in words."""

import math
from typing import Any

from polyclinic.report import formats
from polyclinic.report.rows import Row


def privacy(results: Row) -> dict[str, Any] | None:
    """Rows of what was spent, and the assumptions behind them; None without a budget."""
    own = [(site["name"], row) for site in results["sites"] for row in site.get("privacy", [])]
    found = own + [("each site as a whole", row) for row in results.get("site_privacy", [])]
    asked = "site_privacy" in results or any("privacy" in site for site in results["sites"])
    if not asked:
        return None
    titles = {m["name"]: m["title"] for m in results["methods"]}
    return {
        "rows": [
            {
                "site": name,
                "method": titles.get(row["method"], row["method"]),
                "seed": row["seed"],
                "epsilon": f"{_up(row['epsilon'])} of {row['budget']:g}",
                "delta": f"{row['delta']:g}",
                "unit": row["unit"],
                "steps": formats.count(sum(steps["number"] for steps in row["steps"])),
            }
            for name, row in found
        ],
        "assumptions": sorted({_assumptions(row) for _, row in found}),
    }


def _assumptions(row: Row) -> str:
    return (
        f"Unit {row['unit']}: neighbours are data {row['neighbours']}. Sampling: "
        f"{row['sampling']}. Clip {row['clip']:g}. Accountant: {row['accountant']}."
    )


def _up(epsilon: float) -> str:
    """Three decimals, never less than it is: it is claimed as a bound."""
    return f"{math.ceil(round(1000 * epsilon, 6)) / 1000:.3f}"
