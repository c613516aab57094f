"""Commands that are kept running, and that leave nothing behind, however it ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from polyclinic.deploy import supervise
from polyclinic.deploy.folders import running, stop, working_in
from polyclinic.deploy.supervise import Kept
from polyclinic.errors import RunError

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

# A command that starts another one in a session of its own, as Flower's do.
COMMAND = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"],
                         start_new_session=True)
print(child.pid, flush=True)
time.sleep({seconds})
sys.exit({code})
"""
# A supervisor, to be killed.
SUPERVISOR = """
import sys, time
from pathlib import Path
from polyclinic.deploy.supervise import Kept
with Kept("x", lambda: sys.argv[2:], {}, Path(sys.argv[1])) as kept:
    while True:
        kept.look()
        time.sleep(0.05)
"""


def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


def children(log: Path) -> list[int]:
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def command(seconds=600, code=0):
    return [sys.executable, "-c", COMMAND.format(seconds=seconds, code=code)]


@linux
def test_the_end_of_the_supervisor_ends_everything(tmp_path):
    with Kept("x", command, {}, tmp_path / "log") as kept:
        kept.look()
        until(lambda: children(tmp_path / "log"))
        assert kept.alive
    assert not any(map(alive, children(tmp_path / "log")))


@linux
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_supervisor_that_is_killed_leaves_nothing_behind(tmp_path, number):
    log = tmp_path / "log"
    arguments = [sys.executable, "-c", SUPERVISOR, str(log), *command()]
    process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
    until(lambda: children(log))
    os.kill(process.pid, number)
    process.wait()
    until(lambda: not any(map(alive, children(log))))


@linux
@pytest.mark.parametrize("code", [49, 0])  # 305, as a process ends with it, is 49
def test_a_command_that_ends_is_started_again_without_its_leftovers(tmp_path, monkeypatch, code):
    monkeypatch.setattr(supervise, "SHORT", 0.01)
    ended = []
    with Kept("x", lambda: command(0, code), {}, tmp_path / "log") as kept:
        kept._pause = 0.01
        while kept.starts < 3:
            found = kept.look()
            ended += [] if found is None else [found]
            kept._pause = 0.01
            time.sleep(0.02)
        left = children(tmp_path / "log")[:2]
        assert not any(map(alive, left))
    assert ended[:2] == [code, code]


def test_pauses_grow_and_are_short_again_after_a_long_life(tmp_path):
    now = [0.0]
    with Kept("x", lambda: ["/bin/true"], {}, tmp_path / "log", clock=lambda: now[0]) as kept:
        pauses = []
        for life in (0, 0, 100, 0):
            now[0] += 1000
            kept.look()
            now[0] += life
            until(lambda: not kept.alive)
            kept.look()
            pauses.append(kept._pause)
    assert pauses == [4.0, 8.0, 2.0, 4.0]


def test_a_large_log_is_put_aside(tmp_path, monkeypatch):
    monkeypatch.setattr(supervise, "LARGEST_LOG", 3)
    (tmp_path / "log").write_bytes(b"long")
    supervise.opened(tmp_path / "log").close()
    assert (tmp_path / "log.1").read_bytes() == b"long"
    assert (tmp_path / "log").read_bytes() == b""


def test_a_folder_has_one_worker_that_can_be_stopped(tmp_path):
    assert running(tmp_path) is None
    assert stop(tmp_path) is False
    code = (
        "import sys, time; from pathlib import Path\n"
        "from polyclinic.deploy.folders import working_in\n"
        "with working_in(Path(sys.argv[1])):\n    time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    until(lambda: running(tmp_path) == process.pid)
    with pytest.raises(RunError, match=rf"process {process.pid} works here already"):
        working_in(tmp_path).__enter__()
    time.sleep(0.1)
    stopping = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from polyclinic.deploy.folders import stop\n"
            "sys.exit(not stop(Path(sys.argv[1])))",
            str(tmp_path),
        ]
    )
    assert process.wait(30) == -signal.SIGTERM
    assert stopping.wait(30) == 0
    assert running(tmp_path) is None


@pytest.mark.parametrize(
    ("work", "code"), [("", 1), ("begun(); finished(); ", 1), ("begun(); ", 0)]
)
def test_who_hangs_before_or_after_its_work_makes_way(tmp_path, work, code):
    program = (
        "import sys, time; import polyclinic.deploy.alone as m\n"
        "m.STARTING = m.ENDING = 0.2\n"
        f"m.alone(sys.argv[1]); {work.replace('begun', 'm.begun').replace('fini', 'm.fini')}"
        "time.sleep(1.5)\n"
    )
    call = [sys.executable, "-c", program, str(tmp_path / "lock")]
    assert subprocess.run(call, timeout=60, check=False).returncode == code


def test_of_a_program_of_flower_one_runs_at_a_time(tmp_path):
    code = (
        "import sys, time; from polyclinic.deploy.alone import alone\n"
        "alone(sys.argv[1]); print('works', flush=True); time.sleep(600)\n"
    )
    call = [sys.executable, "-c", code, str(tmp_path / "lock")]
    with subprocess.Popen(call, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "works\n"
        second = subprocess.run(call, capture_output=True, text=True, timeout=30, check=False)
        assert (second.returncode, second.stdout) == (0, "")
        first.kill()
