"""What `import polyclinic` gives, and what it costs."""

import subprocess
import sys

import polyclinic


def test_importing_the_package_loads_nothing_heavy():
    code = "import polyclinic, sys; print({'torch', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_public_names():
    assert polyclinic.__all__ == ["__version__", "load_encoder", "paint"]
