"""Tiny sites in memory, one per task, whose answers a small network can find."""

import numpy as np
import pytest

from polyclinic.data.dataset import IGNORE, SiteData

CLASSES = {
    "single-label": ("vertical", "horizontal"),
    "multi-label": ("stripes", "square"),
    "regression": (),
    "segmentation": ("background", "square"),
}


def _stripes(rng, size, axis):
    wave = np.tile(np.sin(np.arange(size) * np.pi / 2 + rng.uniform(0, 6)), (size, 1))
    return wave if axis == 0 else wave.T


def _example(task, index, size, rng):
    """One image in -1..1 and its target; the index decides the class, so splits are balanced."""
    image = rng.normal(0, 0.1, (size, size))
    kind = index % 4
    if task == "single-label":
        return image + _stripes(rng, size, index % 2) * 0.6, index % 2
    if task == "regression":
        side = int(rng.integers(size // 8, size - size // 4))
        image[2 : 2 + side, 2 : 2 + side] += 0.8
        return image, 40 + side
    label_map = np.zeros((size, size), np.uint8)
    if task == "segmentation" or kind >= 2:
        side = size // 2
        top, left = rng.integers(0, size - side, 2)
        image[top : top + side, left : left + side] += 0.8
        label_map[top : top + side, left : left + side] = 1
    if task == "segmentation":
        label_map[-2:] = IGNORE
        return image, label_map
    if kind % 2:
        image = image + _stripes(rng, size, 0) * 0.6
    return image, (kind % 2, kind // 2)


@pytest.fixture(scope="session")
def make_site():
    """(task, name, n, size, channels, seed) -> SiteData; half of it trains, quarters judge."""

    def make(task="single-label", name="a", n=32, size=16, channels=1, seed=0):
        rng = np.random.default_rng(seed)
        images, targets = zip(*(_example(task, i, size, rng) for i in range(n)), strict=True)
        pixels = np.clip((np.stack(images) + 1) * 127.5, 0, 255).astype(np.uint8)
        kind = {"single-label": np.int64, "regression": np.float32}.get(task, np.uint8)
        rows = np.arange(n)
        return SiteData(
            name=name,
            task=task,
            classes=CLASSES[task],
            images=np.repeat(pixels[:, None], channels, axis=1),
            targets=np.array(targets, kind),
            patients=rows,
            keys=tuple(f"{name}-{i}" for i in range(n)),
            split={
                "train": rows[: n // 2],
                "val": rows[n // 2 : n // 2 + n // 4],
                "test": rows[n // 2 + n // 4 :],
            },
            format="memory",
        )

    return make


@pytest.fixture(scope="session")
def awake():
    """config -> a painter's network that heeds its input: MONAI's own ends with zeros, until it is
    trained."""
    import torch

    from polyclinic.inpaint.network import build_network
    from polyclinic.seeding import generator

    def make(config):
        network = build_network(config, seed=0).eval()
        with torch.no_grad():
            for value in network.parameters():
                value.add_(torch.randn(value.shape, generator=generator("awake")), alpha=0.1)
        return network

    return make


@pytest.fixture
def exact(monkeypatch):
    """CPU, float32, one thread: what is computed twice is the same to the last bit."""
    import torch

    monkeypatch.setenv("POLYCLINIC_DEVICE", "cpu")
    monkeypatch.setenv("POLYCLINIC_PRECISION", "float32")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def claim_volume():
    """(path, shape) -> a NIfTI file of some hundred bytes whose header claims this shape."""
    import nibabel

    def make(path, shape):
        fits = max(shape) < 2**15
        header = (nibabel.Nifti1Header if fits else nibabel.Nifti2Header)()
        header.set_data_shape(shape)
        header["magic"] = header.single_magic
        header["vox_offset"] = header.single_vox_offset
        header.set_sform(np.eye(4), 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(header.binaryblock + bytes(100))
        return path

    return make
