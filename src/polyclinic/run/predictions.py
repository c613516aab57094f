"""Where a run keeps its predictions for the test splits."""

from collections.abc import Mapping
from pathlib import Path

from polyclinic.config import Config
from polyclinic.evaluate.metrics import Predictions
from polyclinic.evaluate.protocols import ProtocolName


def predictions_path(run: Path, seed: int, method: str, site: str, protocol: ProtocolName) -> Path:
    """Where the predictions for a test split are kept."""
    return run / f"seed-{seed}" / method / "evaluation" / f"{site}.{protocol}.npz"


def load_predictions(
    run: Path, config: Config, method: str, site: str, protocol: ProtocolName
) -> Mapping[int, Predictions]:
    """The predictions of every seed that is finished, by seed."""
    paths = {s: predictions_path(run, s, method, site, protocol) for s in config.seeds}
    return {seed: Predictions.load(path) for seed, path in paths.items() if path.exists()}
