"""The comparison of painters: which components a claim is about."""

import painter
import painter_tables
from polyclinic.run.painter_evaluation import evaluation
from polyclinic.run.painter_evaluation.measure import REAL


def row(slice_, sequence, *shown, variant=painter.LEAD, case="a"):
    return {
        "variant": variant,
        "case": case,
        "slice": slice_,
        "sequence": sequence,
        "shape": "exact",
        "components": [{"component": name} for name in shown],
    }


def entries(group, ratio, real=0.6):
    values = {"dice": 0.5, "dice_real": real, "dice_ratio": ratio}
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
            *entries("enhancing, exact", 0.9, real=0.1),
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
    why = "the segmenter's Dice on the real slices is 0.10; expected 0.5"
    assert found["enhancing, exact"]["left_out"] == why
    assert found["core, exact"]["dice_ratio"] == 0.9


def test_parts_are_put_together_and_real_slices_count_once(monkeypatch):
    def part(*names):
        kept = ("painter", "data", "split", "patients", "edits", "encoder", "segmenter")
        found = {name: name for name in kept} | {"variants": [{"name": name} for name in names]}
        return found, [row(0, "t2f", variant=name) for name in (REAL, *names)]

    seen = []

    def tables_of(rows, seed, references):
        seen.extend(one["variant"] for one in rows)
        assert (seed, references) == (7, (painter.MEAN,))
        names = ("infill", "features", "time", "seams", "diversity", "containment", "components",
                 "differences")  # fmt: skip
        return {name: [] for name in names}

    monkeypatch.setattr(evaluation, "tables_of", tables_of)
    result = painter._together([part(painter.LEAD, "a"), part("b")], 7)
    assert seen == [REAL, painter.LEAD, "a", "b"]
    assert [one["name"] for one in result["variants"]] == [painter.LEAD, "a", "b"]
    assert result["claims"]["seams"] is None


def test_few_steps_are_as_good_where_psnr_and_kid_are_within_5_percent():
    def said(psnr, kid, edits=9):
        tables = {name: [] for name in ("time", "seams", "diversity", "containment",
                                        "differences")}  # fmt: skip
        tables |= {
            "infill": [entry(painter.LEAD, "infill", "psnr", 20.0),
                       entry(painter.LONG, "infill", "psnr", psnr, edits=edits)],
            "features": [entry(painter.LEAD, "infill", "kid", 0.1),
                         entry(painter.LONG, "infill", "kid", kid)],
        }  # fmt: skip
        return painter._claims(tables, [])["4 steps within 5 % of 50"]

    assert said(21.0, 0.2) is True
    assert said(21.1, 0.2) is False
    assert said(15.0, 0.09) is False
    assert said(15.0, 0.096) is True
    assert said(15.0, None) is None
    assert said(15.0, 0.096, edits=5) is None


def difference(variant, high, measure):
    return {"variant": variant, "group": painter.MEAN, "measure": measure, "high": high}


def test_the_mean_beats_another_where_the_whole_interval_says_so():
    tables = {name: [] for name in ("infill", "features", "time", "seams", "diversity",
                                    "containment")}  # fmt: skip
    rivals = ("biharmonic", "telea", "regression")
    claim = "the mean beats infill without diffusion"

    def said(highs):
        tables["differences"] = [
            difference(name, high, measure)
            for name, high in zip(rivals, highs, strict=True)
            for measure in ("psnr", "ssim")
        ]
        return painter._claims(tables, [])[claim]

    assert said([-0.1, -0.2, -0.01]) is True
    assert said([-0.1, -0.2, 0.01]) is False
    assert said([-0.1, -0.2, None]) is None


def test_boxes_hold_as_the_model_says_and_as_the_segmenter_finds():
    tables = {name: [] for name in ("infill", "features", "time", "seams", "diversity",
                                    "differences")}  # fmt: skip

    def said(model, found, real):
        tables["containment"] = [
            entry(painter.LEAD, "tumour", name, v)
            for name, v in (("containment", model), ("containment_found", found),
                            ("containment_found_real", real))
        ]  # fmt: skip
        return painter._claims(tables, [])["boxes"]

    assert said(1.0, 0.9, 0.9) is True
    assert said(1.0, 0.8, 0.9) is False
    assert said(0.98, 0.9, 0.9) is False


def entry(variant, kind, measure, value, by="all", group="all", **more):
    return {"variant": variant, "kind": kind, "measure": measure, "value": value, "by": by,
            "group": group, "low": None, "high": None, "edits": 9} | more  # fmt: skip


def test_the_result_as_markdown():
    lead, other = painter.LEAD, "biharmonic"
    tables = {
        "time": [entry(lead, "all", "calls", 8.0), entry(other, "all", "calls", 0.0)],
        "infill": [
            entry(lead, "infill", "psnr", 21.74),
            entry(lead, "infill", "psnr", 99.0, by="size", group="small", low=98.0, high=99.5),
            entry(other, "infill", "psnr", None),
        ],
        "components": [
            entry(lead, "tumour", "as_none", 0.25, by="component", group="core, exact"),
            entry(other, "tumour", "as_none", 0.75, by="component", group="core, exact"),
        ],
        "containment": [entry(lead, "tumour", "containment", 1.0)],
        "features": [entry(lead, "tumour", "texture: contrast", -0.125, low=-0.5, high=0.25)],
        "differences": [
            entry(other, "infill", "psnr", -1.254, by="against", group=lead, edits=7, low=-2.0,
                  high=None)
        ],
    }  # fmt: skip
    part = {"group": "core, exact", "slices": 3, "dice": 0.5, "dice_real": 0.4,
            "dice_ratio": 1.25, "left_out": "3 slices show it; expected 20"}  # fmt: skip
    block = {"tables": tables, "components": [part], "claims": {"seams": True, "boxes": None}}
    text = painter_tables.markdown(block)
    assert "| seams | yes |\n| boxes | cannot be said |" in text
    assert f"| {lead} | 8 |  | 21.7 |" in text
    assert f"| {other} | 0 |  |  |" in text
    assert "| core, exact | 3 | 0.50 | 0.40 | 1.25 |  | 0.25 | 3 slices show it" in text
    assert f"| {other} | {lead} | 7 | psnr | -1.25 | -2.00 |  |" in text
    assert "| small | 99.0 (98.0 to 99.5) |" in text
    assert "| all | 21.7 |" in text
    assert "| contrast |  | -0.12 (-0.50 to 0.25) |" in text
