"""Records: regions packed and unpacked, files told apart, damaged records refused."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyclinic.errors import DataError
from polyclinic.inpaint.painting import Settings
from polyclinic.inpaint.provenance import (
    Asked,
    Provenance,
    array_digest,
    as_record,
    differing,
    pack,
    pixel_counts,
    read_provenance,
    unpack,
)
from polyclinic.inpaint.regions import Region

RECORD = Provenance(
    input="/somewhere/scan.png",
    format="png",
    sequence="t2f",
    inputs={"scan.png": "0" * 64},
    painter="ab" * 32,
    asked=(Asked("box:0,0,1,1", "oedema", True, (0, 1), "2" * 64),),
    shape=(1, 2, 2),
    fill=(-1, 3, 10, 1),
    settings=Settings(steps=3, seed=5),
    precision="float32",
    outputs={"t2f": "1" * 64},
    pixels={"oedema": 1},
    warnings=("careful",),
    machine={"torch": "2"},
)


@settings(max_examples=40, derandomize=True, database=None, deadline=None)
@given(shape=st.tuples(*[st.integers(1, 5)] * 3), seed=st.integers(0, 99), kinds=st.integers(1, 6))
def test_regions_survive_packing(shape, seed, kinds):
    rng = np.random.default_rng(seed)
    fill = rng.integers(-1, kinds - 1, shape).astype(np.int8)
    boxes = (rng.integers(0, 300, shape) * (fill >= 0)).astype(np.int16)
    runs = pack([Region(f, b) for f, b in zip(fill, boxes, strict=True)])
    again = unpack(json.loads(json.dumps(runs)), shape)
    assert np.array_equal(np.stack([r.fill_map for r in again]), fill)
    assert np.array_equal(np.stack([r.boxes for r in again]), boxes)
    assert again[0].fill_map.dtype == np.int8


def test_a_record_survives_its_file(tmp_path):
    path = tmp_path / "edit.json"
    path.write_text(json.dumps(as_record(RECORD)))
    assert read_provenance(path) == RECORD


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"schema": "other/1"}, r"its schema is not polyclinic\.edit/1"),
        ({"fill": [-1, 3]}, r"its regions do not have its shape"),
        ({"fill": [-1, 3, 7, 1]}, r"its regions have unknown components"),
        ({"settings": {"step": 3}}, r"not the record of an edit \(something in it is of another t"),
        ({"settings": {"power": 0}}, r"not the record of an edit \(power: expected"),
        ({"extra": 1}, r"not the record of an edit \(something in it is of another type"),
        ({"input": None}, r"not the record of an edit \(its input is None"),
        ({"settings": None}, r"not the record of an edit \(its settings is None"),
        ({"fill": ["a", "b"]}, r"not the record of an edit \("),
    ],
)
def test_damaged_records_are_refused(tmp_path, change, expected):
    path = tmp_path / "edit.json"
    path.write_text(json.dumps({**as_record(RECORD), **change}))
    with pytest.raises(DataError, match=expected):
        read_provenance(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", r"not the record of an edit \(it has no 'schema'\)"),
        ("[1]", r"not the record of an edit \(a JSON list\)"),
        ("{", r"not the record of an edit \(Expecting property name"),
    ],
)
def test_other_files_are_no_records(tmp_path, text, expected):
    path = tmp_path / "edit.json"
    path.write_text(text)
    with pytest.raises(DataError, match=expected):
        read_provenance(path)


def test_the_sampler_in_older_records_must_be_the_one_that_there_is(tmp_path):
    path, record = tmp_path / "edit.json", as_record(RECORD)
    record["settings"]["sampler"] = "ddim"
    path.write_text(json.dumps(record))
    assert read_provenance(path) == RECORD
    record["settings"]["sampler"] = "heun"
    path.write_text(json.dumps(record))
    with pytest.raises(DataError, match=r"edit\.json: sampled by 'heun', which .* 'ddim', or the"):
        read_provenance(path)


def test_what_is_no_record_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no such file; expected the JSON beside an edited image"):
        read_provenance(tmp_path / "gone.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(DataError, match=r"list\.json: not the record of an edit"):
        read_provenance(tmp_path / "list.json")


def test_the_identity_is_that_of_the_image_not_of_the_machine():
    same = dataclasses.replace(RECORD, input="elsewhere", machine={}, warnings=())
    other = dataclasses.replace(RECORD, outputs={"t2f": "3" * 64})
    assert same.identity == RECORD.identity != other.identity


def test_inputs_are_told_apart_by_content():
    assert list(differing(RECORD, {"renamed.png": "0" * 64})) == []
    assert list(differing(RECORD, {"scan.png": "1" * 64})) == ["scan.png"]
    several = dataclasses.replace(RECORD, inputs={"a": "0", "b": "1", "c": "2"})
    assert list(differing(several, {"a": "0", "b": "9", "d": "3"})) == ["b", "c", "d"]


def test_digests_know_values_types_and_shapes():
    values = np.arange(6, dtype=np.int16)
    alike = [values.reshape(2, 3), np.asfortranarray(values.reshape(2, 3))]
    assert len({array_digest(a) for a in alike}) == 1
    others = [values, values.reshape(3, 2), values.astype(">i2"), values.astype("u2")]
    assert len({array_digest(a) for a in [*alike, *others]}) == 5


def test_pixels_are_counted_by_component():
    assert pixel_counts(np.array([-1, 0, 0, 2], np.int8)) == {"tumour-free": 2, "oedema": 1}


def test_the_summary_fits_into_a_nifti_header():
    assert RECORD.summary.startswith("SYNTHETIC: painted by Polyclinic")
    assert "seed 5" in RECORD.summary[:79]
