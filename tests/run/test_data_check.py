"""What `data check` finds as JSON, and the file that may leave."""

import json

import jsonschema
import pytest

from polyclinic.data.phantoms import chest
from polyclinic.errors import DataError, RunError
from polyclinic.run.data_check import as_json, check_data, data_check_schema, write_shared
from polyclinic.run.progress import silent


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A phantom site with an image that cannot be read."""
    folder = tmp_path_factory.mktemp("data") / "chest"
    chest.write(folder, seed=0, images=64, image_size=32)
    first = min(folder.rglob("*.png"))
    first.write_bytes(first.read_bytes()[:100])
    return folder


@pytest.fixture(scope="module")
def checked(site):
    return check_data(site, jobs=1, tell=silent)


def test_the_json_is_what_its_schema_says(checked):
    schema = data_check_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    result = json.loads(json.dumps(as_json(checked), allow_nan=False))
    jsonschema.validate(result, schema)
    assert result["images"] == 64
    assert result["readable"] == 63
    assert result["counts"]["warning"] == 1
    (warning,) = [f for f in result["findings"] if f["severity"] == "warning"]
    assert warning["check"] == "reading"
    assert sum(c["findings"] for c in result["checks"]) == len(result["findings"])


def test_progress_goes_from_nothing_to_all(site):
    steps = []
    check_data(site, jobs=1, tell=steps.append)
    shares = [step.done for step in steps]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)
    assert {step.phase for step in steps} == {"check"}
    assert {step.site for step in steps} == {"chest"}


def test_the_shared_file_is_whole_or_not_there(checked, tmp_path, monkeypatch):
    path = write_shared(checked, tmp_path / "shared.json")
    assert json.loads(path.read_text())["images"] == 63
    with pytest.raises(RunError, match=r"gone.*cannot be written"):
        write_shared(checked, tmp_path / "gone" / "shared.json")
    monkeypatch.setattr("polyclinic.data.checks.sharing.MIN_COUNT", 1000)
    with pytest.raises(DataError, match=r"63 readable images; aggregates may leave from 1000 on"):
        write_shared(checked, tmp_path / "small.json")
    assert [p.name for p in tmp_path.iterdir()] == ["shared.json"]
