"""From nothing to three sites that have trained together over TLS: the commands in the docs.

    python benchmarks/three_sites.py       # about three minutes

The commands are those of docs/deploy.md, "Three sites on one machine", as they stand there, run in
a temporary copy of the folders that they name.

Claim: less than five minutes, images made up included.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import records

MOST = 300.0  # s
SEED = 0
ROOT = Path(__file__).resolve().parents[1]
TITLE = "## Three sites on one machine"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=records.RESULTS / "three_sites.json")
    arguments = parser.parse_args()
    result = records.circumstances(["polyclinic", "torch", "flwr"], seed=SEED)
    with tempfile.TemporaryDirectory() as folder:
        result |= measure(Path(folder))
    print(json.dumps({key: result[key] for key in ("seconds", "who", "pass")}))
    records.write(result, arguments.out)


def commands(page: str) -> list[str]:
    """The lines of the block of shell commands under `TITLE`."""
    found = re.search(rf"{TITLE}\n.*?```bash\n(.*?)```", page, re.DOTALL)
    if not found:
        raise SystemExit(f"docs/deploy.md: no shell commands under {TITLE!r}")
    return found[1].splitlines()


def measure(folder: Path) -> dict[str, Any]:
    """Run the commands in `folder`; seconds of each, and who took part."""
    shutil.copytree(ROOT / "examples", folder / "examples")
    search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": search, "POLYCLINIC_CACHE": str(folder / "cache")}
    rows, place, began = [], folder, time.perf_counter()
    for command in commands((ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")):
        if command.startswith("cd "):
            place = place / command.removeprefix("cd ")
            continue
        start = time.perf_counter()
        done = subprocess.run(
            command, shell=True, cwd=place, env=environment, stdout=subprocess.DEVNULL, check=False
        )
        rows.append({"command": command, "seconds": round(time.perf_counter() - start, 1)})
        if done.returncode:
            raise SystemExit(f"{command}: ended with code {done.returncode}")
    seconds = round(time.perf_counter() - began, 1)
    kept = json.loads((place / "server" / "run" / "federation.json").read_text(encoding="utf-8"))
    who = [stage["who"] for stage in kept["runs"][0]["stages"]]
    whole = all(said == "3 of 3" for said in who)
    passed = whole and seconds < MOST
    return {"commands": rows, "seconds": seconds, "who": who, "pass": passed}


if __name__ == "__main__":
    main()
