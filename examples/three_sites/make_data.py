"""Make up images for the three hospitals of this example, and a public corpus: `data/`."""

from pathlib import Path

from polyclinic.data.phantoms import write_phantoms

if __name__ == "__main__":
    write_phantoms(Path("data"), seed=0, images_per_site=120, tell=print)
