"""The encoder that a federation must end with: the same run in one process.

A site that was absent from a stage is absent from the same stage here. The functions are those of
`polyclinic run`; what differs is that a site is left out.
"""

import functools
import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from faults_federation import SAME_BITS, SITES
from faults_verdict import Absences

ENCODER = Path("seed-0", "universal", "encoders", "encoder.safetensors")


def references(data: Path, settings: str) -> Callable[[Absences], str]:
    """(absences) -> the digest of the final encoder; each is computed once.

    `settings` is the text of a `federation.toml`, `data` holds `sites/` and `corpus/`.
    """
    os.environ.update(SAME_BITS)

    @functools.cache
    def expected(absent: Absences) -> str:
        with tempfile.TemporaryDirectory() as folder:
            return _digest_of(Path(folder), data, settings, absent)

    return expected


def digest(path: Path) -> str | None:
    """The digest of a file; None without one."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None


def _digest_of(folder: Path, data: Path, settings: str, absent: Absences) -> str:
    import torch

    from absences import Present
    from polyclinic.deploy.settings import load_deployment
    from polyclinic.models.device import fixed_precision
    from polyclinic.run.directory import open_run
    from polyclinic.run.environment import settle
    from polyclinic.run.experiment import prepare
    from polyclinic.run.progress import silent
    from polyclinic.run.training import pretrained_start, train_method
    from polyclinic.run.work import Meter

    torch.set_num_threads(1)
    file = folder / "federation.toml"
    file.write_text(settings, encoding="utf-8")
    config = load_deployment(file).config
    config = replace(
        config, sites=tuple(replace(s, path=data / "sites" / s.name) for s in config.sites)
    )
    with (
        open_run(folder / "run", config, resume=False) as directory,
        fixed_precision(settle(directory, silent)),
    ):
        prepared = prepare(config)
        start = pretrained_start(directory, prepared.corpus, 0, Meter(1.0, silent))
        sites = {name: prepared.sites[name] for name in SITES}
        workers = Present(sites, lambda stage, name: (stage, name) in absent)
        train_method(directory, workers, start, prepared.corpus, "universal", 0, lambda *_: None)
    found = digest(folder / "run" / ENCODER)
    assert found is not None
    return found
