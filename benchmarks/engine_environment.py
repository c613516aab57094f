"""The virtual environment `.venv-engines`: Polyclinic together with Flower and Ray.

Flower holds back packages that Polyclinic uses, so it gets an environment of its own, made like
`.venv` by scripts/setup_env.py: PyTorch first, at the pinned version and for the CPU, then
everything else with PyTorch kept as it is. Both engines are measured in this one environment.
"""

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".venv-engines"
PYTHON = FOLDER / "bin" / "python"
REQUIREMENTS = Path(__file__).with_name("requirements-engines.txt")
_STAMP = FOLDER / ".made-from"


def ensure() -> Path:
    """Make the environment unless it is there already; returns its Python.

    Ends the script with one line on what failed when it cannot be made.
    """
    wanted = _fingerprint()
    if not (_STAMP.is_file() and _STAMP.read_text() == wanted and PYTHON.exists()):
        try:
            _make()
        except SystemExit as error:
            sys.exit(
                f"engines: {FOLDER} cannot be made ({error}); this benchmark needs a package index "
                "that has flwr and ray for this Python, about 1.5 GB of disk, and pip"
            )
        _STAMP.write_text(wanted)
    return PYTHON


def _make() -> None:
    setup = _setup_module()
    if not setup.works():
        setup.create()
    (FOLDER / ".gitignore").write_text("*\n")
    pin = setup.install_torch("cpu")
    setup.say("installing Polyclinic, Flower and Ray")
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not re.match(r"torch\b", line)]
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder, "constraints.txt")
        constraints.write_text("\n".join([*kept, pin, ""]), encoding="utf-8")
        tail = ["install", "--constraint", str(constraints), "--requirement", str(REQUIREMENTS)]
        tail += ["--editable", str(ROOT)]
        tool = setup.uv(required=False)
        # Where uv finds less than pip (an index that only pip is told of), pip does the work.
        if not tool or setup.call([*tool, *tail], may_fail=True) != 0:
            setup.call([*setup.pip(), *tail, "--quiet"])
    check = [str(PYTHON), "-c", "import flwr.serverapp, flwr.simulation, psutil, ray, polyclinic"]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"what was installed does not import: {setup.last_line(done.stderr)}")


def _setup_module():
    """scripts/setup_env.py, told to work on this environment instead of `.venv`."""
    sys.path.insert(0, str(ROOT / "scripts"))
    import setup_env

    setup_env.VENV, setup_env.PYTHON = FOLDER, PYTHON
    # uv may be installed beside the Python that runs this, without being on the path
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return setup_env


def _fingerprint() -> str:
    digest = hashlib.sha256(str(FOLDER).encode())
    for path in (ROOT / "constraints.txt", ROOT / "pyproject.toml", REQUIREMENTS):
        digest.update(path.read_bytes())
    return digest.hexdigest()
