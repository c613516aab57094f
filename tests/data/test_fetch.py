"""Downloads against a server of this machine that breaks off, lies, or refuses."""

import errno
import functools
import hashlib
import http.client
import http.server
import threading

import pytest

from polyclinic.data import fetch as module
from polyclinic.data import medmnist
from polyclinic.data.fetch import checksum, fetch_medmnist
from polyclinic.data.medmnist import Download
from polyclinic.errors import ConfigError, DataError, RunError

CONTENT = bytes(range(256)) * 400


class Server(http.server.BaseHTTPRequestHandler):
    """Sends `content`; `faults` says how often it breaks off, and whether it resumes."""

    def __init__(self, state, *arguments):
        self.state = state
        super().__init__(*arguments)

    def do_GET(self):
        asked = self.headers.get("Range")
        self.state["asked"].append(asked)
        if self.state.get("code"):
            self.send_error(self.state["code"])
            return
        start = int(asked[6:-1]) if asked and self.state["resumes"] else 0
        content = self.state["content"]
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        breaks = self.state["breaks"].pop(0) if self.state["breaks"] else len(content)
        self.wfile.write(content[start : start + breaks])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    state = {"content": CONTENT, "asked": [], "breaks": [], "resumes": True}
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Server, state)
    ) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        state["url"] = f"http://127.0.0.1:{running.server_port}"
        yield state
        running.shutdown()
        thread.join()


WANTED = Download("x.npz", hashlib.md5(CONTENT).hexdigest(), "CC BY 4.0")


def test_a_file_is_fetched_verified_and_not_fetched_again(tmp_path, server):
    told = []

    def report(done, total):
        told.append((done, total))

    assert fetch_medmnist(WANTED, tmp_path / "a", source=server["url"], report=report)
    assert (tmp_path / "a" / "x.npz").read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert not fetch_medmnist(WANTED, tmp_path / "a", source=server["url"])
    assert server["asked"] == [None]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["x.npz"]


@pytest.mark.parametrize("resumes", [True, False])
def test_a_broken_connection_is_taken_up_again(tmp_path, server, resumes):
    server["breaks"], server["resumes"] = [1000], resumes
    message = r"^http.*/x\.npz\?download=1: the connection broke off; call again to go on"
    with pytest.raises(DataError, match=message):
        fetch_medmnist(WANTED, tmp_path, source=server["url"])
    assert (tmp_path / "x.npz.part").stat().st_size == 1000
    assert not (tmp_path / "x.npz").exists()
    assert fetch_medmnist(WANTED, tmp_path, source=server["url"])
    assert server["asked"] == [None, "bytes=1000-"]
    assert (tmp_path / "x.npz").read_bytes() == CONTENT


def test_a_part_that_is_whole_already_is_verified(tmp_path, server):
    (tmp_path / "x.npz.part").write_bytes(CONTENT)
    assert fetch_medmnist(WANTED, tmp_path, source=server["url"])
    assert checksum(tmp_path / "x.npz") == WANTED.md5


def test_damaged_files_are_not_kept(tmp_path, server):
    server["content"] = CONTENT[:-1] + b"\0"
    with pytest.raises(DataError, match=r"what came is damaged .* was removed; try again"):
        fetch_medmnist(WANTED, tmp_path, source=server["url"])
    assert list(tmp_path.iterdir()) == []


def test_another_file_of_that_name_is_not_written_over(tmp_path, server):
    (tmp_path / "x.npz").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"x\.npz: is another file than MedMNIST's"):
        fetch_medmnist(WANTED, tmp_path, source=server["url"])
    assert (tmp_path / "x.npz").read_bytes() == b"mine"


def test_a_server_that_refuses_and_one_that_is_not_there(tmp_path, server, monkeypatch):
    server["code"] = 503
    with pytest.raises(DataError, match=r"the server answers 503 Service Unavailable; try again"):
        fetch_medmnist(WANTED, tmp_path, source=server["url"])
    monkeypatch.setattr(module, "TIMEOUT", 0.5)
    needs = r"cannot be reached .* needs a network: fetch the file .* copy it to .*/x\.npz$"
    with pytest.raises(DataError, match=needs):
        fetch_medmnist(WANTED, tmp_path, source="http://127.0.0.1:9")
    with pytest.raises(ConfigError, match=r"source 'file:///etc': expected an address that begins"):
        fetch_medmnist(WANTED, tmp_path, source="file:///etc")


@pytest.mark.parametrize(
    "source",
    [
        "http://[bad",
        "http://ü/ä",
        "https://a/ä",
        "https://",
        "http://a:b",
        "http://a b",
        "http://.a",
    ],
)
def test_an_address_that_is_none_is_known_before_anything_is_made(tmp_path, source):
    with pytest.raises(ConfigError, match=r"expected an address that begins with https://, in ASC"):
        fetch_medmnist(WANTED, tmp_path / "new", source=source)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path, server):
    (tmp_path / "0.png").touch()
    text = (
        r"0\.png/x/x\.npz: cannot be written \(Not a directory\); choose another folder with --out"
    )
    with pytest.raises(RunError, match=text):
        fetch_medmnist(WANTED, tmp_path / "0.png" / "x", source=server["url"])
    assert server["asked"] == []


def test_a_full_disk_is_said_and_no_fault_of_the_network(tmp_path, server):
    def full(_done, _total):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(RunError, match=r"x/x\.npz: the disk is full; free some space, then call"):
        fetch_medmnist(WANTED, tmp_path / "x", source=server["url"], report=full)
    assert fetch_medmnist(WANTED, tmp_path / "x", source=server["url"])


def test_a_network_that_fails_in_the_middle_is_no_fault_of_the_disk(tmp_path, server, monkeypatch):
    def unreachable(*_):
        raise OSError(errno.EHOSTUNREACH, "No route to host")

    monkeypatch.setattr(http.client.HTTPResponse, "read", unreachable)
    with pytest.raises(DataError, match=r"the connection broke off; call again"):
        fetch_medmnist(WANTED, tmp_path, source=server["url"])


def test_folders_that_were_made_for_nothing_go_again(tmp_path, server):
    server["code"] = 404
    (tmp_path / "there").mkdir()
    for folder in (tmp_path / "out" / "x", tmp_path / "there"):
        with pytest.raises(DataError, match="the server answers 404"):
            fetch_medmnist(WANTED, folder, source=server["url"])
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    server.update(code=None, breaks=[1000])
    with pytest.raises(DataError, match="broke off"):
        fetch_medmnist(WANTED, tmp_path / "out" / "x", source=server["url"])
    assert (tmp_path / "out" / "x" / "x.npz.part").exists()


def test_names_and_sizes():
    assert medmnist.download("BloodMNIST", 28).file == "bloodmnist.npz"
    wanted = medmnist.download("dermamnist", 64)
    assert wanted == Download(
        "dermamnist_64.npz", "b70a2f5635c6199aeaa28c31d7202e1f", "CC BY-NC 4.0"
    )
    with pytest.raises(ConfigError, match=r"known: pathmnist, .*; did you mean `bloodmnist`\?"):
        medmnist.download("bloodmnst", 28)
    with pytest.raises(ConfigError, match=r"no images of 32 px; expected one of 28, 64, 128, 224"):
        medmnist.download("bloodmnist", 32)
    sums = [md5 for _, all_sizes in medmnist.SETS.values() for md5 in all_sizes]
    assert len(set(sums)) == len(sums) == 12 * 4
    assert all(len(md5) == 32 for md5 in sums)
