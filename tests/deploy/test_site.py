"""Joining, and joining again: what a site has said stays said, and a wrong folder is an error."""

import json

import pytest

from polyclinic.cli import deployment, main
from polyclinic.deploy import site as site_module
from polyclinic.deploy.folders import read_record, working_in
from polyclinic.deploy.site import join, usual_folder
from polyclinic.errors import ConfigError, RunError

from .conftest import invited

pytest.importorskip("flwr")


@pytest.fixture
def invite(tmp_path, keys, monkeypatch):
    """An invitation for the site `north`, in the working folder, to a server that lets it in."""
    invited(tmp_path, keys)
    (tmp_path / "data").mkdir()
    monkeypatch.setattr(site_module, "request", lambda *_: (200, {"node": "1"}))
    monkeypatch.setattr(deployment, "work_for_federation", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "invites" / "north.invite"


def told(folder):
    return read_record(folder / "site.json")["tells_scores"]


def test_scores_that_are_kept_stay_kept_until_the_site_says_otherwise(invite, tmp_path):
    command = ["site", "join", str(invite), "--data", "data"]
    seen = []
    for options in ([], ["--keep-scores"], [], ["--tell-scores"], []):
        assert main([*command, *options]) == 0
        seen.append(told(tmp_path / "site-north"))
    assert seen == [True, False, False, True, True]


def test_in_the_background_nothing_is_said_that_was_not_asked(invite, monkeypatch):
    calls = []
    monkeypatch.setattr(
        deployment, "in_background", lambda arguments, *_: calls.append(arguments) or 1
    )
    command = ["site", "join", str(invite), "--data", "data", "--background"]
    assert main([*command, "--keep-scores"]) == 0
    assert main(command) == 0
    assert "--keep-scores" in calls[0]
    assert not {"--keep-scores", "--tell-scores"} & set(calls[1])


def test_a_second_call_changes_nothing_while_the_site_works(invite, tmp_path):
    folder, options = tmp_path / "site", {"data": tmp_path / "data", "task": "auto"}
    join(invite, folder, format="auto", **options)
    before = (folder / "site.json").read_bytes()
    with working_in(folder), pytest.raises(RunError, match=r"works here already; stop it first"):
        join(invite, folder, format="npz", **options)
    assert (folder / "site.json").read_bytes() == before


def test_what_was_joined_is_on_the_disk(invite, tmp_path, monkeypatch):
    lasting = []
    real = site_module.write_record

    def write(path, record, *, lasting_=lasting, **options):
        lasting_.append((path.name, options))
        real(path, record, **options)

    monkeypatch.setattr(site_module, "write_record", write)
    join(invite, tmp_path / "site", data=tmp_path / "data", format="auto", task="auto")
    assert lasting[-1] == ("site.json", {"lasting": True})


def test_an_invitation_that_was_used_leads_to_the_folder_of_its_site(invite, tmp_path, capsys):
    command = ["site", "join", str(invite), "--data", "data"]
    assert main(command) == 0
    invite.unlink()  # as the server does
    assert main(command) == 0
    (tmp_path / "site-north").rename(tmp_path / "elsewhere")
    assert main(command) == 2
    assert "a site that has joined goes on with --state elsewhere" in capsys.readouterr().err
    assert main([*command, "--state", "elsewhere"]) == 0
    (tmp_path / "elsewhere" / "site.json").unlink()
    with pytest.raises(ConfigError, match=r"no such file; expected the invitation .* sent$"):
        usual_folder(invite)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["site", "stop", "typo"], "typo: no site has joined from here; expected a folder like"),
        (["site", "stop", "server"], "server: no site has joined from here"),
        (["server", "stop", "--state", "typo"], "typo: no server was started there"),
        (["server", "stop", "--state", "north"], "north: no server was started there"),
        (["status"], "no folder of a server or a site is in here"),
        (["status", "--wait"], "no folder of a server or a site is in here"),
        (["status", "north", "--wait"], "north: no server to wait for; name the folder of one"),
        (["status", "typo"], "typo: neither a server's folder nor a site's"),
    ],
)
def test_a_wrong_folder_is_an_error(tmp_path, monkeypatch, capsys, command, said):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(
        tmp_path / "empty" if command in (["status"], ["status", "--wait"]) else tmp_path
    )
    for name, file in (("server", "deployment.json"), ("north", "site.json")):
        (tmp_path / name).mkdir()
        record = {"name": "north", "address": "a", "port": 1, "agreement": {}}
        (tmp_path / name / file).write_text(json.dumps(record))
    assert main(command) == RunError.exit_code
    assert said in capsys.readouterr().err


def test_stopping_what_does_not_work_now_is_none(invite, tmp_path, capsys):
    join(invite, tmp_path / "site", data=tmp_path / "data", format="auto", task="auto")
    assert main(["site", "stop", str(tmp_path / "site")]) == 0
    assert capsys.readouterr().out == "it was not running\n"
