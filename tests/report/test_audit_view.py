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


@pytest.mark.parametrize(
    ("text", "match"),
    [("{", r"cannot be read .*; audit the run again"), ("[]", r"expected schema .*, got None")],
)
def test_another_file_is_refused(tmp_path, text, match):
    (tmp_path / "audit.json").write_text(text)
    with pytest.raises(RunError, match=match):
        audit(tmp_path)
