"""Results of the studies beside the comparison as Markdown, one function each.

python benchmarks/study_tables.py ablation                     # benchmarks/results/ablation.json
python benchmarks/study_tables.py scaling --result other.json
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import records
from eight_sites_tables import NAMES, scores_table, tests_table
from markdown_table import table
from polyclinic.errors import PolyclinicError
from polyclinic.federation.methods import TITLES
from polyclinic.run.directory import read_json

Result = Mapping[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", choices=TABLES)
    parser.add_argument("--result", type=Path, help="default benchmarks/results/STUDY.json")
    arguments = parser.parse_args()
    try:
        path = arguments.result or records.RESULTS / f"{arguments.study}.json"
        print(TABLES[arguments.study](read_json(path)))
    except PolyclinicError as error:
        sys.exit(f"study_tables: {error}")


def ablation(result: Result) -> str:
    """What is changed, the mean over sites, and the difference that it makes."""
    rows = []
    for one in result["changes"]:
        apart = one["over_chosen"]
        own = one["change"] == "as chosen" or apart is None
        rows.append(
            [
                one["change"],
                f"{one['mean']:.3f}",
                ""
                if own
                else f"{apart['value']:+.3f} ({apart['low']:+.3f} to {apart['high']:+.3f})",
                str(len(one["seeds"])),
            ]
        )
    return table(["Change", "Mean of sites", "Difference", "Seeds"], rows)


def communication(result: Result) -> str:
    """Methods by the stages that were judged, and the share of bytes to FedAvg's last score."""
    stages = sorted({point["stage"] for one in result["ways"] for point in one["curve"]})
    rows = []
    for one in result["ways"]:
        means = {point["stage"]: f"{point['mean']:.3f}" for point in one["curve"]}
        sent = one["curve"][-1]["bytes"] / 1e6
        cells = [means.get(stage, "") for stage in stages]
        rows.append([way_title(one["way"]), f"{sent:.0f}", *cells, _share(one["shares"])])
    after = ["start" if stage == 0 else f"stage {stage}" for stage in stages]
    return table(["Method", "MB in all", *after, "Share of FedAvg's bytes"], rows)


def scaling(result: Result) -> str:
    """Every federation, and what it loses against the one that it is compared with."""
    rows = []
    for one in result["cells"]:
        lost = one["lost"]
        victim = lost.get(result["victim"])
        rows.append(
            [
                one["cell"],
                TITLES[one["method"]],
                f"{one['sites']:.0f}",
                f"{one['mean']:.3f}",
                f"{-sum(lost.values()) / len(lost):+.3f}" if lost else "",
                "" if victim is None else f"{-victim:+.3f}",
                f"{one['bytes'] / 1e6:.0f}",
                f"{one['training_seconds'] / 60:.1f}",
            ]
        )
    head = ["Federation", "Method", "Sites", "Mean of sites", "Against the whole"]
    return table([*head, result["victim"], "MB", "Processor minutes"], rows)


def shift(result: Result) -> str:
    """Places that nobody trained on, by linear probe and by fine-tuning."""
    rows = [
        [
            place["site"],
            place["place"],
            str(place["images"]),
            *(_scores_of(place[protocol]) for protocol in result["better"]),
        ]
        for place in result["places"]
    ]
    said = [
        f"{NAMES[protocol]}: better than {TITLES[other].lower()} at {often}."
        for protocol, found in result["better"].items()
        for other, often in found.items()
    ]
    head = ["Site", "Left out", "Images", *(NAMES[protocol] for protocol in result["better"])]
    return "\n".join([table(head, rows), "", "Universal / masked image modelling / alone.", *said])


def left_out_sites(result: Result) -> str:
    """By protocol: the scores at the site that was left out, and the tests of both verdicts."""
    parts = []
    for protocol in dict.fromkeys(row["protocol"] for row in result["scores"]):
        titles = result["encoders"]
        scores = [row for row in result["scores"] if row["protocol"] == protocol]
        parts += [f"## {NAMES[protocol]}", table(*scores_table(scores, titles))]
        for verdict in (result, result["beside"]):
            gains, compared = (
                [row for row in verdict[key] if row["protocol"] == protocol]
                for key in ("gains", "comparisons")
            )
            parts.append(table(*tests_table(compared, gains, titles)))
    return "\n\n".join(parts)


def way_title(way: str) -> str:
    """The method's title, and how its changes are written where that is said."""
    method, comma, rest = way.partition(",")
    return TITLES[method] + comma + rest


def _share(by_seed: Mapping[Any, float | None]) -> str:
    shares = list(by_seed.values())
    known = [share for share in shares if share is not None]
    if not shares:
        return ""
    if len(known) < len(shares):
        return f"not reached in {len(shares) - len(known)} of {len(shares)} seeds"
    return f"{100 * sum(known) / len(known):.1f} %"


def _scores_of(by_key: Mapping[str, float]) -> str:
    """In the order in which they stand; the best in bold."""
    best = max(by_key.values())
    shown = (f"{value:.3f}" for value in by_key.values())
    return " / ".join(f"**{text}**" if text == f"{best:.3f}" else text for text in shown)


TABLES: dict[str, Callable[[Result], str]] = {
    function.__name__: function
    for function in (ablation, communication, scaling, shift, left_out_sites)
}
"""By the name of the script whose result it is."""


if __name__ == "__main__":
    main()
