"""What an audit works on, how much it does, and a row of what it found."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from polyclinic.config import Config, Weighting
from polyclinic.data.dataset import SiteData
from polyclinic.models.encoder import Preset
from polyclinic.models.state import State
from polyclinic.models.training import TrainPlan
from polyclinic.run.directory import Record

Kind = Literal["made to leak", "protected", "as the run trains", "stronger attacker"]
"""Of a victim: one that must fall; the same under the run's protection; the run's own training; the
run's training where an attacker sees more than the server."""

Verdict = Literal["succeeds", "fails", "caught", "missed", "within the claim", "above the claim"]

Told = Callable[[str, float], None]
"""(setting, share of the attack that is done)"""


@dataclass(frozen=True)
class AuditPlan:
    """How much an audit does; the figures in `audit.json` say how much it did."""

    quick: bool = False
    seed: int = 0
    victims: int = 3  # of gradient inversion, in each setting
    inversion_steps: int = 300
    inversion_batch: int = 16  # images of a batch at most
    image_size: int = 48  # px at most, of images that are reconstructed
    canaries: int = 10_000  # of the mechanism
    stage_canaries: int = 64
    models: int = 8  # shadow models, the victims among them
    pool: int = 200  # images, of which half train a model
    label_victims: int = 30
    simulated: int = 60  # updates of the attacker's own
    resamples: int = 1000


@dataclass(frozen=True)
class Subject:
    """A site, the encoder that it receives, how it trains, and how the method weighs sites."""

    site: SiteData
    preset: Preset
    received: State
    config: Config
    train: TrainPlan
    weighting: Weighting

    @property
    def private(self) -> bool:
        """Whether the run trains under differential privacy of images or patients."""
        return self.train.privacy.epsilon > 0

    @property
    def secure(self) -> bool:
        """Whether the run's server sees sums alone."""
        return self.config.federation.secure

    @property
    def examples(self) -> int:
        """How large the site says it is: nothing, under differential privacy."""
        return 1 if self.private else len(self.site.split["train"])

    @property
    def alone(self) -> Kind:
        """What an attack on the change of this site alone is: a server that sees sums has none."""
        return "stronger attacker" if self.secure else "as the run trains"


Attack = Callable[[Subject, AuditPlan, Told], Iterator[Record]]


def row(
    setting: str,
    kind: Kind,
    attacker: str,
    measure: str,
    value: float,
    interval: tuple[float, float] | None,
    baseline: float | None,
    verdict: Verdict,
    **details: Any,
) -> Record:
    """A row of `audit.json`. `attacker` says what is known; `baseline` needs no update at all."""
    low, high = interval or (None, None)
    return {
        "setting": setting,
        "kind": kind,
        "attacker": attacker,
        "measure": measure,
        "value": float(value),
        "low": None if low is None else float(low),
        "high": None if high is None else float(high),
        "baseline": None if baseline is None else float(baseline),
        "verdict": verdict,
        "details": details,
    }
