"""A site's SuperNode ends with Flower's program, whatever that leaves behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from polyclinic.deploy.server import free_port

ENDS = {
    "it has lost the server": ("return", 1, ""),
    "it was asked to end": ("sys.exit(0)", 0, ""),
    "it tells a code": ("sys.exit(3)", 3, ""),
    "it tells a reason": ("sys.exit('no server')", 1, "no server"),
    "it fails": ("raise ValueError('bad record')", 1, "ValueError: bad record"),
    "its heartbeat fails": ("beat(); time.sleep(60)", 1, "RuntimeError: not recognised"),
    "a thread of it ends": ("beat(SystemExit(4)); time.sleep(1); sys.exit(5)", 5, ""),
}
PROGRAM = """
import contextlib, subprocess, sys, threading, time
from polyclinic.deploy.node_process import run

def stand():
    time.sleep(60)

def heart(error):
    raise error

def beat(error=RuntimeError("not recognised")):
    threading.Thread(target=heart, args=(error,), daemon=True).start()

def program():
    with contextlib.suppress(OSError):
        print("works", flush=True)
    threading.Thread(target=stand).start()
    {end}

run(program, grace=0.5)
"""


def ended(how, **streams):
    """How a process ends whose program does what `how` says."""
    command = [sys.executable, "-c", PROGRAM.format(end=how)]
    return subprocess.run(command, text=True, timeout=50, check=False, **streams)


@pytest.mark.parametrize("end", ENDS)
def test_it_ends_although_a_thread_goes_on(end):
    how, code, said = ENDS[end]
    done = ended(how, capture_output=True)
    assert (done.returncode, done.stdout) == (code, "works\n")
    assert said in done.stderr
    assert bool(said) == bool(done.stderr)


@pytest.mark.parametrize("end", ENDS)
def test_it_ends_although_its_log_is_on_a_full_disk(end):
    how, code, _ = ENDS[end]
    with Path("/dev/full").open("w") as full:
        assert ended(how, stdout=full, stderr=full).returncode == code


def test_what_is_worked_on_is_finished_after_the_heartbeat_has_failed(tmp_path):
    work = f"import time; time.sleep(3); open({str(tmp_path / 'done')!r}, 'w')"
    command = f"[sys.executable, '-c', {work!r}, 'polyclinic.deploy.site_process']"
    done = ended(f"subprocess.Popen({command}); beat(); time.sleep(60)", capture_output=True)
    assert done.returncode == 1
    assert (tmp_path / "done").exists()


def test_flowers_program_runs_with_the_arguments_of_this_process():
    command = [sys.executable, "-m", "polyclinic.deploy.node_process", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.startswith("Flower version: 1.41")


FLOWER = """
import sys
from flwr.supernode.cli import flower_supernode  # the function hides the module of its name
module = sys.modules["flwr.supernode.cli.flower_supernode"]
module.start_client_internal = lambda **_: print("the loop has ended")
from polyclinic.deploy.node_process import main
main()
"""


def test_flowers_own_program_ends_with_its_loop():
    options = ["--insecure", "--superlink", "127.0.0.1:9", "--host", "127.0.0.1"]
    command = [sys.executable, "-c", FLOWER, *options, "--port", str(free_port())]
    environment = {**os.environ, "FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=100, check=False, env=environment
    )
    assert (done.returncode, "the loop has ended" in done.stdout) == (1, True), done.stderr
