"""Create .venv with Polyclinic and its tools in it: `make setup`.

Needs nothing but Python's standard library. PyTorch goes first and alone: its default build for
Linux brings gigabytes of CUDA, which a machine without an NVIDIA GPU has no use for. Everything
else follows with the versions of constraints.txt. A second call ends at once; after a change of
pyproject.toml or constraints.txt, or an interruption, it repairs what is there.

POLYCLINIC_TORCH overrides the choice of PyTorch: `cpu`, `gpu` (what pip chooses by itself), or
`skip` (use the PyTorch that you have installed into .venv yourself).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / ".polyclinic-setup"  # what the finished environment was made from
OLDEST = (3, 11)


def main() -> None:
    """Bring .venv to the state that the files of this checkout ask for."""
    if sys.version_info < OLDEST:
        have = ".".join(map(str, sys.version_info[:3]))
        fail(
            f"Python 3.11 or newer is needed, this is {have} ({sys.executable}); "
            "choose another with `make setup PYTHON=python3.12`"
        )
    choice = os.environ.get("POLYCLINIC_TORCH", "")
    if choice not in ("", "cpu", "gpu", "skip"):
        fail(f"POLYCLINIC_TORCH: expected cpu, gpu or skip, got {choice!r}")
    wanted = fingerprint()
    made, _, chosen = (STAMP.read_text(encoding="utf-8") if STAMP.is_file() else "").partition(" ")
    if made == wanted and choice in ("", chosen) and works():
        return
    STAMP.unlink(missing_ok=True)
    if not works():
        create()
    pin = install_torch(choice)
    install_rest(pin)
    STAMP.write_text(f"{wanted} {choice or chosen}", encoding="utf-8")
    say(f"done; Polyclinic is {VENV / 'bin' / 'polyclinic'}")


def fingerprint() -> str:
    """Changes with the dependencies and with the place of the checkout (scripts hold paths)."""
    digest = hashlib.sha256(str(VENV).encode())
    for name in ("pyproject.toml", "constraints.txt", "scripts/setup_env.py"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def works() -> bool:
    """Whether .venv has a Python of the right age that believes to be there, and a pip."""
    check = "import sys, pip; print(sys.version_info[:2] >= (3, 11), sys.prefix)"
    try:
        done = subprocess.run([PYTHON, "-c", check], capture_output=True, text=True, check=False)
    except OSError:
        return False
    return done.stdout.strip() == f"True {VENV}"


def create() -> None:
    """Make .venv anew."""
    say(f"creating {VENV} with Python {sys.version.split()[0]}")
    try:
        import ensurepip  # noqa: F401 - Debian has it in a package of its own
        import venv
    except ImportError as error:
        fail(
            f"Python's module {error.name} is missing; install your system's package for it "
            "(on Debian and Ubuntu: apt install python3-venv)"
        )
    if VENV.is_symlink():
        VENV.unlink()
    try:
        venv.EnvBuilder(clear=True, with_pip=True, symlinks=os.name != "nt").create(VENV)
    except (OSError, subprocess.CalledProcessError) as error:
        fail(f"{VENV} cannot be created: {error}")


def install_torch(choice: str) -> str:
    """Install PyTorch in the right build; returns the requirement that keeps it there."""
    wanted = pinned("torch")
    have = installed("torch")
    if choice == "skip":
        if not have:
            fail(
                "POLYCLINIC_TORCH=skip, but .venv has no PyTorch; install it with "
                f"`{PYTHON} -m pip install torch...`, then run `make setup` again"
            )
        return f"torch=={have}"
    fits = have.split("+")[0] == wanted and (not choice or (choice == "cpu") == ("+cpu" in have))
    if fits:
        return f"torch=={have}"
    requirement = f"torch=={wanted}"
    cpu = choice == "cpu" or (not choice and not has_gpu())
    say(f"installing PyTorch {wanted}{' for the CPU' if cpu else ''}")
    if cpu and pip_would_pull_cuda(requirement):
        call(
            [*uv(required=True), "install", "--torch-backend=cpu", "--reinstall", requirement],
            advice="POLYCLINIC_TORCH=gpu takes the build that pip chooses, from where pip finds it",
        )
    else:
        call([*pip(), "install", *(["--force-reinstall"] if have else []), requirement])
    return f"torch=={installed('torch') or wanted}"


def install_rest(pin: str) -> None:
    """Install Polyclinic, editable, with its tools; `pin` keeps PyTorch as it is."""
    say("installing Polyclinic and its dependencies")
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not re.match(r"torch\b", line)]
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder, "constraints.txt")
        constraints.write_text("\n".join([*kept, pin, ""]), encoding="utf-8")
        tail = ["install", "--constraint", str(constraints), "--editable", f"{ROOT}[dev]"]
        tool = uv(required=False)
        # Where uv finds less than pip (an index that only pip is told of), pip does the work.
        if not tool or call([*tool, *tail], may_fail=True) != 0:
            call([*pip(), *tail, "--quiet"])


def pip_would_pull_cuda(requirement: str) -> bool:
    """Ask pip what it would install for `requirement`, without installing it."""
    options = ["--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    command = [*pip(), "install", *options, requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        fail(f"pip cannot find {requirement}: {last_line(done.stderr)}")
    return any(is_cuda(name) for name in names_in_report(done.stdout))


def names_in_report(report: str) -> list[str]:
    """The names of the packages in the JSON that `pip install --report` prints."""
    return [entry["metadata"]["name"] for entry in json.loads(report)["install"]]


def is_cuda(name: str) -> bool:
    """Whether a package is a part of CUDA or of what needs it."""
    return name.lower().startswith(("nvidia", "cuda", "triton", "pytorch-triton"))


def has_gpu() -> bool:
    """Whether this machine has an NVIDIA GPU that can be used."""
    if Path("/dev/nvidia0").exists():
        return True
    if not shutil.which("nvidia-smi"):
        return False
    return subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False).returncode == 0


def pinned(package: str) -> str:
    """The version of `package` in constraints.txt."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    found = re.search(rf"^{package}==(\S+)$", text, re.MULTILINE)
    if not found:
        fail(f"constraints.txt: no line `{package}==VERSION`")
    return found.group(1)


def installed(package: str) -> str:
    """The version of `package` in .venv, or nothing."""
    ask = f"import importlib.metadata as m; print(m.version({package!r}))"
    done = subprocess.run([PYTHON, "-c", ask], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def pip() -> list[str]:
    """The command that is pip in .venv."""
    return [str(PYTHON), "-m", "pip", "--disable-pip-version-check"]


def uv(*, required: bool) -> list[str]:
    """The command that is `uv pip`, or nothing if there is no uv and none is required."""
    own = str(VENV / "bin" / "uv")
    known = [path for path in (shutil.which("uv"), shutil.which(own)) if path]
    if required:
        known = [path for path in known if chooses_torch(path)]
        if not known:
            call([*pip(), "install", "--quiet", "--upgrade", "uv"])
            known = [own]
    return [known[0], "pip"] if known else []


def chooses_torch(path: str) -> bool:
    """Whether the uv at `path` is new enough to choose a build of PyTorch."""
    command = [path, "pip", "install", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "--torch-backend" in done.stdout


def call(command: list[str], *, may_fail: bool = False, advice: str = "") -> int:
    """Run `command` for .venv; ends the script if it fails, unless it may."""
    environment = {**os.environ, "VIRTUAL_ENV": str(VENV)}
    code = subprocess.run(command, env=environment, check=False).returncode
    if code and not may_fail:
        fail(f"this command failed with code {code}: {' '.join(command)}; {advice}".rstrip("; "))
    return code


def last_line(text: str) -> str:
    """The last line of `text` that is not empty."""
    return ([line for line in text.splitlines() if line.strip()] or [""])[-1]


def say(text: str) -> None:
    """Tell the user what happens."""
    print(f"setup: {text}", flush=True)


def fail(text: str) -> NoReturn:
    """End with one line about what is wrong."""
    sys.exit(f"setup: error: {text}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        fail("interrupted; `make setup` continues")
