"""The virtual environments `.venv-engines-NAME`: Polyclinic together with one engine in each.

The engines ask for versions of the same packages that need not go together, so none shares an
environment. Each is made like `.venv` by scripts/setup_env.py: PyTorch first, at the pinned version
and for the CPU, then everything else with PyTorch kept as it is.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGES: dict[str, list[str]] = {  # beside Polyclinic and what it needs itself
    "polyclinic": [],
    "flower": ["flwr[simulation]==1.41.0"],
    "nvflare": ["nvflare==2.9.0"],
}
_IMPORTS = {
    "polyclinic": "torch",
    "flower": "flwr.serverapp, flwr.simulation, ray",
    "nvflare": "nvflare.job_config.api",
}


def folder(engine: str) -> Path:
    """Where the environment of `engine` is."""
    return ROOT / f".venv-engines-{engine}"


def ensure(engine: str) -> Path:
    """Make the environment of `engine` unless it is there already; returns its Python.

    Ends the script with one line on what failed when it cannot be made.
    """
    place, wanted = folder(engine), _fingerprint(engine)
    python, stamp = place / "bin" / "python", place / ".made-from"
    if not (stamp.is_file() and stamp.read_text() == wanted and python.exists()):
        try:
            _make(engine, python)
        except SystemExit as error:
            sys.exit(
                f"peers: {place} cannot be made ({error}); this benchmark needs a package index "
                f"that has {_named(engine)} for this Python, about 1.5 GB of disk, and pip"
            )
        stamp.write_text(wanted)
    return python


def versions(engine: str, packages: list[str]) -> dict[str, str]:
    """The versions of `packages` in the environment of `engine`."""
    ask = "import importlib.metadata as m, json, sys; "
    ask += "print(json.dumps({name: m.version(name) for name in sys.argv[1:]}))"
    command = [str(ensure(engine)), "-c", ask, *packages]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def _make(engine: str, python: Path) -> None:
    setup = _setup_module(engine, python)
    if not setup.works():
        setup.create()
    pin = setup.install_torch("cpu")
    setup.say(f"installing {_named(engine)}")
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not re.match(r"torch\b", line)]
    with tempfile.TemporaryDirectory() as name:
        constraints = Path(name, "constraints.txt")
        constraints.write_text("\n".join([*kept, pin, ""]), encoding="utf-8")
        tail = ["install", "--constraint", str(constraints), *PACKAGES[engine]]
        tail += ["--editable", str(ROOT)]
        tool = setup.uv(required=False)
        # Where uv finds less than pip (an index that only pip is told of), pip does the work.
        # Bytecode now, as pip does it: otherwise the first run would pay for it.
        if not tool or setup.call([*tool, *tail, "--compile-bytecode"], may_fail=True) != 0:
            setup.call([*setup.pip(), *tail, "--quiet"])
    check = [str(python), "-c", f"import {_IMPORTS[engine]}, polyclinic"]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"what was installed does not import: {setup.last_line(done.stderr)}")


def _named(engine: str) -> str:
    return " and ".join(["Polyclinic", *PACKAGES[engine]])


def _setup_module(engine: str, python: Path) -> Any:
    """scripts/setup_env.py, told to work on this environment instead of `.venv`."""
    sys.path.insert(0, str(ROOT / "scripts"))
    import setup_env

    setup_env.VENV, setup_env.PYTHON = folder(engine), python
    # uv may be installed beside the Python that runs this, without being on the path
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return setup_env


def _fingerprint(engine: str) -> str:
    digest = hashlib.sha256(f"{folder(engine)} {_named(engine)}".encode())
    for path in (ROOT / "constraints.txt", ROOT / "pyproject.toml"):
        digest.update(path.read_bytes())
    return digest.hexdigest()
