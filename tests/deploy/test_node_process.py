"""A site's SuperNode ends with Flower's program, whatever that leaves behind."""

import subprocess
import sys

import pytest

ENDS = {
    "it has lost the server": ("return", 1, ""),
    "it was asked to end": ("sys.exit(0)", 0, ""),
    "it tells a code": ("sys.exit(3)", 3, ""),
    "it tells a reason": ("sys.exit('no server')", 1, ""),
    "it fails": ("raise ValueError('bad record')", 1, "ValueError: bad record"),
    "its heartbeat fails": ("beat(); time.sleep(60)", 1, "RuntimeError: not recognised"),
}
PROGRAM = """
import sys, threading, time
from polyclinic.deploy.node_process import run

def stand():
    time.sleep(60)

def heart():
    raise RuntimeError("not recognised")

def beat():
    threading.Thread(target=heart, daemon=True).start()

def program():
    print("works")
    threading.Thread(target=stand).start()
    {end}

run(program)
"""


@pytest.mark.parametrize("end", ENDS)
def test_it_ends_although_a_thread_goes_on(end):
    how, code, said = ENDS[end]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(end=how)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stdout) == (code, "works\n")
    assert said in done.stderr
    assert bool(said) == ("Traceback" in done.stderr)


def test_flowers_program_runs_with_the_arguments_of_this_process():
    command = [sys.executable, "-m", "polyclinic.deploy.node_process", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.startswith("Flower version: 1.41")
