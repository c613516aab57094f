"""The result of `painter.py` as Markdown, for docs/painting-figures.md."""

from collections.abc import Mapping, Sequence
from typing import Any

from markdown_table import table

Entry = Mapping[str, Any]
_MAIN = (
    # heading, table, kind, measure, digits
    ("Evaluations", "time", "all", "calls", 0),
    ("s a slice", "time", "all", "seconds", 2),
    ("PSNR, dB", "infill", "infill", "psnr", 1),
    ("SSIM", "infill", "infill", "ssim", 3),
    ("KID", "features", "infill", "kid", 3),
    ("KID, tumours", "features", "tumour", "kid", 3),
    ("Ring AUC", "seams", "infill", "ring_auc", 2),
    ("Difference", "diversity", "infill", "diversity", 2),
    ("Taken for tumour", "infill", "infill", "found_tumour", 3),
    ("Nearer to training", "copies", "tumour", "copies", 2),
)
_CHALLENGE = (
    ("SSIM", "challenge", "volume", "challenge_ssim", 3),
    ("PSNR, dB", "challenge", "volume", "challenge_psnr", 1),
    ("PSNR to 1, dB", "challenge", "volume", "challenge_psnr_01", 1),
    ("MSE", "challenge", "volume", "challenge_mse", 4),
    ("Between slices", "challenge", "volume", "between_slices", 2),
)
_COMPONENTS = ("dice", "dice_real", "dice_ratio")
_OF_ASKED = ("as_another", "as_none")
_BOXES = (
    ("Pixels changed outside", "containment", "all", "changed_outside", 3),
    ("In the box", "containment", "tumour", "containment", 3),
    ("As the segmenter finds it", "containment", "tumour", "containment_found", 3),
    ("The same, real", "containment", "tumour", "containment_found_real", 3),
    ("Box filled", "containment", "tumour", "filled", 3),
    ("Box filled, real", "containment", "tumour", "filled_real", 3),
)
_TUMOUR_FREE = (
    ("PSNR, dB", "infill", "infill", "psnr", 1),
    ("SSIM", "infill", "infill", "ssim", 2),
    ("Taken for tumour", "infill", "infill", "found_tumour", 3),
    ("Difference", "diversity", "infill", "diversity", 2),
)
_BOTH = tuple(
    (heading + of, name, kind, measure, 2)
    for heading, name, measure in (
        ("Gradient ratio", "seams", "seam_ratio"),
        ("Ring AUC", "seams", "ring_auc"),
        ("KID", "features", "kid"),
    )
    for of, kind in (("", "infill"), (", tumours", "tumour"))
)
_TEXTURE = "texture: "
_DIFFERENCES = {"psnr": 2, "ssim": 3}
_INTERVAL = ("value", "low", "high")


def markdown(result: Mapping[str, Any]) -> str:
    """All tables, a heading before each."""
    tables, claims = result["tables"], result["claims"]
    said = {True: "yes", False: "no", None: "cannot be said"}
    parts = [
        table(("Claim", "Holds"), [(claim, said[held]) for claim, held in claims.items()]),
        _by_variant(tables, _MAIN),
        "## The first way of painting",
        _by_group(tables, _TUMOUR_FREE),
        _by_group(tables, _BOTH),
        _texture(tables["features"]),
        "## Volumes",
        _by_variant(tables, _CHALLENGE),
        "## Components",
        _components(result),
        "## Boxes",
        _by_variant(tables, _BOXES),
        "## Differences on the same edits",
        _differences(tables["differences"]),
    ]
    return "\n\n".join(parts) + "\n"


def _by_variant(
    tables: Mapping[str, Sequence[Entry]], columns: Sequence[tuple[str, str, str, str, int]]
) -> str:
    """A row for each way of painting, a column for each measure, over all edits of a kind."""
    found = {
        (entry["variant"], name, entry["kind"], entry["measure"]): entry["value"]
        for name, entries in tables.items()
        for entry in entries
        if entry["by"] == "all"
    }
    rows = [
        (variant, *(_number(found.get((variant, *key)), digits) for _, *key, digits in columns))
        for variant in dict.fromkeys(entry["variant"] for entry in tables["time"])
    ]
    shown = [row for row in rows if any(row[1:])]
    return table(("", *(heading for heading, *_ in columns)), shown)


def _by_group(
    tables: Mapping[str, Sequence[Entry]], columns: Sequence[tuple[str, str, str, str, int]]
) -> str:
    """A row for each sequence, size and shape that the first way of painting painted."""
    lead = tables["time"][0]["variant"]
    found = {
        ((entry["by"], entry["group"]), (name, entry["kind"], entry["measure"])): entry
        for name, entries in tables.items()
        for entry in entries
        if entry["variant"] == lead and entry["by"] in ("all", "sequence", "size", "shape")
    }
    rows = [
        (
            group[1],
            *(_with_interval(found.get((group, (*key,))), digits) for _, *key, digits in columns),
        )
        for group in dict.fromkeys(group for group, key in found if key[0] in ("infill", "seams"))
    ]
    return table(("", *(heading for heading, *_ in columns)), rows)


def _texture(entries: Sequence[Entry]) -> str:
    """Statistics of the first way of painting, as differences in standard deviations."""
    lead = entries[0]["variant"] if entries else None
    found = {
        (entry["measure"].removeprefix(_TEXTURE), entry["kind"]): entry
        for entry in entries
        if entry["variant"] == lead and entry["by"] == "all" and _TEXTURE in entry["measure"]
    }
    rows = [
        (name, *(_with_interval(found.get((name, kind)), 2) for kind in ("infill", "tumour")))
        for name in dict.fromkeys(name for name, _ in found)
    ]
    return table(("Texture", "tumour-free tissue", "tumours"), rows)


def _components(result: Mapping[str, Any]) -> str:
    """What the segmenter makes of the components that the first way of painting painted."""
    entries = result["tables"]["components"]
    lead = entries[0]["variant"] if entries else None
    found = {
        (entry["group"], entry["measure"]): entry["value"]
        for entry in entries
        if entry["variant"] == lead and entry["by"] == "component"
    }
    rows = [
        (
            part["group"],
            str(part["slices"]),
            *(_number(part[name], 2) for name in _COMPONENTS),
            *(_number(found.get((part["group"], name)), 2) for name in _OF_ASKED),
            part["left_out"] or "",
        )
        for part in result["components"]
    ]
    head = ("", "Slices", "Dice", "Dice, real", "Ratio", "As another", "As none", "Not judged")
    return table(head, rows)


def _differences(entries: Sequence[Entry]) -> str:
    """Paired by edit, with intervals over patients."""
    rows = [
        (
            entry["variant"],
            entry["group"],
            str(entry["edits"]),
            entry["measure"],
            *(_number(entry[key], _DIFFERENCES[entry["measure"]]) for key in _INTERVAL),
        )
        for entry in entries
        if entry["measure"] in _DIFFERENCES and entry["kind"] == "infill"
    ]
    return table(("", "against", "Edits", "Measure", "Difference", "low", "high"), rows)


def _with_interval(entry: Entry | None, digits: int) -> str:
    if entry is None or entry["value"] is None:
        return ""
    value, *bounds = (_number(entry[key], digits) for key in _INTERVAL)
    return f"{value} ({' to '.join(bounds)})" if all(bounds) else value


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
