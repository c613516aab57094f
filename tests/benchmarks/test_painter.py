"""The comparison of painters: which components a claim is about."""

import painter


def row(slice_, sequence, *shown, variant=painter.LEAD, case="a"):
    return {
        "variant": variant,
        "case": case,
        "slice": slice_,
        "sequence": sequence,
        "shape": "exact",
        "components": [{"component": name} for name in shown],
    }


def entries(group, ratio):
    values = {"dice": 0.5, "dice_real": 0.6, "dice_ratio": ratio}
    return [
        {"variant": painter.LEAD, "by": "component", "group": group, "measure": m, "value": value}
        for m, value in values.items()
    ]


def test_slices_count_once_and_what_is_left_out_says_why():
    rows = [
        row(z, sequence, "core", *(["oedema"] if z < 7 else []), case=case)
        for case in "ab"
        for z in range(10)
        for sequence in ("t1n", "t2f")
    ]
    rows += [row(z, "t2f", "oedema", variant="other") for z in range(50)]
    rows += [row(z, "t2f", "enhancing") for z in range(20)]
    tables = {
        "components": [
            *entries("core, exact", 0.9),
            *entries("oedema, exact", 0.1),
            *entries("enhancing, exact", None),
        ]
    }
    found = {part["group"]: part for part in painter.components(tables, rows)}
    assert {group: part["slices"] for group, part in found.items()} == {
        "core, exact": 20,
        "enhancing, exact": 20,
        "oedema, exact": 14,
    }
    assert found["core, exact"]["left_out"] is None
    assert found["oedema, exact"]["left_out"] == "14 slices show it; expected 20"
    assert "finds nothing of it in the real slices" in found["enhancing, exact"]["left_out"]
    assert found["core, exact"]["dice_ratio"] == 0.9
