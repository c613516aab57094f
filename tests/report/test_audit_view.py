"""What the report shows of attacks."""

import json

import pytest

from polyclinic.errors import RunError
from polyclinic.report import write_report
from polyclinic.report.audit_view import audit

ROW = {
    "site": "north",
    "attack": "inversion",
    "setting": "one image <b>",
    "kind": "as the run trains",
    "attacker": "the change",
    "measure": "PSNR, dB",
    "value": 9.25,
    "low": 9.0,
    "high": 9.5,
    "baseline": None,
    "verdict": "fails",
    "details": {},
}
CONTENT = {
    "schema": "polyclinic.audit/1",
    "created": "2026-01-02T03:04:05Z",
    "quick": True,
    "run": {"name": "r", "method": "universal", "seed": 0},
    "sites": [{"name": "north"}],
    "rows": [ROW, {**ROW, "kind": "made to leak", "attack": "labels"}],
    "missed": ["labels (one image <b>)"],
}


def test_without_an_audit_nothing_is_said(tmp_path):
    assert audit(tmp_path) is None


def test_the_section_shows_rows_and_attacks_that_failed_where_they_must_not(
    tmp_path, sample, write_sample
):
    results = sample(sites=2)
    page = write_sample(tmp_path / "run", results)
    run = page.parent if page.suffix == ".html" else page
    before = write_report(run).read_text()
    assert "Attacks on the updates" not in before
    (run / "audit.json").write_text(json.dumps(CONTENT))
    after = write_report(run).read_text()
    assert "Attacks on the updates" in after
    assert "9.25 (9 to 9.5)" in after
    assert "one image &lt;b&gt;" in after
    assert "made to leak: labels (one image &lt;b&gt;)" in after
    assert "A quick audit" in after


def without(part, name):
    return {key: value for key, value in part.items() if key != name}


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ({"schema": "polyclinic.audit/1"}, r"'created' in it, of type str, got nothing; audit the"),
        ({**CONTENT, "rows": 3}, r"'rows' in it, of type list, got 3; audit the run again"),
        ({**CONTENT, "run": {"method": "universal"}}, r"'seed' in 'run', of type int, got nothing"),
        ({**CONTENT, "sites": ["north"]}, r"'name' in site 1, of type str, got nothing"),
        ({**CONTENT, "rows": [ROW, 7]}, r"'site' in row 2, of type str, got nothing"),
        ({**CONTENT, "rows": [{**ROW, "value": None}]}, r"'value' in row 1, .* got None"),
        ({**CONTENT, "rows": [{**ROW, "low": "9"}]}, r"'low' in row 1, .* float or null, got '9'"),
        *(
            ({**CONTENT, "rows": [without(ROW, name)]}, rf"audit\.json: expected '{name}' in row 1")
            for name in without(ROW, "details")
        ),
        *(
            (without(CONTENT, name), rf"expected '{name}' in it")
            for name in without(CONTENT, "schema")
        ),
    ],
)
def test_a_file_that_lacks_something_is_refused_in_one_line(tmp_path, content, match):
    (tmp_path / "audit.json").write_text(json.dumps(content))
    with pytest.raises(RunError, match=match) as caught:
        audit(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "match"),
    [("{", r"cannot be read .*; audit the run again"), ("[]", r"expected schema .*, got None")],
)
def test_another_file_is_refused(tmp_path, text, match):
    (tmp_path / "audit.json").write_text(text)
    with pytest.raises(RunError, match=match):
        audit(tmp_path)
