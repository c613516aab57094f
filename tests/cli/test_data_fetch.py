import pytest

from polyclinic.cli import engine, main
from polyclinic.cli.data_fetch import SIZES
from polyclinic.data import fetch, medmnist


@pytest.fixture
def fetched(monkeypatch):
    """What would have been fetched; the second set was there already."""
    calls = []

    def pretend(wanted, folder, *, source, report):
        calls.append((wanted.file, folder.name, source))
        report(1, 2)
        return len(calls) == 1

    monkeypatch.setattr(fetch, "fetch_medmnist", pretend)
    return calls


def test_sets_are_fetched_one_after_another(tmp_path, fetched, capsys):
    names = ["bloodmnist", "breastmnist"]
    assert main(["data", "fetch", "medmnist", *names, "--out", str(tmp_path), "--size", "64"]) == 0
    assert fetched == [(f"{name}_64.npz", name, medmnist.SOURCE) for name in names]
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"{tmp_path}/bloodmnist/bloodmnist_64.npz: fetched, licence CC BY 4.0"
    assert second.endswith("is there already, licence CC BY 4.0")


def test_as_json_and_from_a_mirror(tmp_path, fetched, capsys):
    options = ["--out", str(tmp_path), "--json", "--source", "https://mirror"]
    assert main(["data", "fetch", "medmnist", "octmnist", *options]) == 0
    assert fetched == [("octmnist.npz", "octmnist", "https://mirror")]
    assert '"event": "fetch"' in capsys.readouterr().out.splitlines()[-1]


def test_a_wrong_name_is_known_before_anything_is_fetched(tmp_path, fetched, capsys):
    names = ["bloodmnist", "blodmnist"]
    assert main(["data", "fetch", "medmnist", *names, "--out", str(tmp_path)]) == 2
    assert fetched == []
    assert "did you mean `bloodmnist`?" in capsys.readouterr().err


def test_what_the_user_got_wrong_is_no_bug(tmp_path, capsys):
    (tmp_path / "0.png").touch()
    words = ["data", "fetch", "medmnist", "octmnist", "--out"]
    assert main([*words, str(tmp_path / "0.png")]) == 5
    assert main([*words, str(tmp_path), "--source", "http://[bad"]) == 2
    assert capsys.readouterr().err.count("polyclinic: error: ") == 2


def test_options_that_exclude_each_other(tmp_path, fetched):
    words = ["data", "fetch", "medmnist", "octmnist", "--out", str(tmp_path), "--json", "--quiet"]
    assert main(words) == 2


def test_the_sizes_are_those_that_there_are():
    assert SIZES == medmnist.SIZES
    assert callable(engine.fetch)
