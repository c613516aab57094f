"""Every setting, with its default: frozen dataclasses, and what `--quick` makes of them."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

MethodName = Literal[
    "universal",
    "fedavg",
    "fedprox",
    "local",
    "mim",
    "centralised",
    "fedbn",
    "fedmim",
    "contrastive",
    "scratch",
]
METHODS: tuple[MethodName, ...] = get_args(MethodName)
"""Every method, in the order in which results show them."""
USUAL_METHODS = METHODS[:6]
"""What a run compares unless it is told otherwise."""
BY_SIZE: tuple[MethodName, ...] = ("fedavg", "fedprox", "fedbn", "fedmim")
"""Methods that weigh sites by their number of images."""
NEVER_PRIVATE: tuple[MethodName, ...] = ("fedbn", "fedmim")
"""Methods whose sites train in a way that has no private form."""

Weighting = Literal["size", "sqrt-size", "equal"]
Aggregation = Literal["mean", "trimmed-mean", "median", "krum"]
Exchange = Literal["parallel", "cyclic"]
ServerOptimiser = Literal["none", "momentum", "adam"]
Anchor = Literal["none", "proximal", "feature"]
Wire = Literal["float32", "float16", "int8"]
Compression = Literal["none", "zlib"]
PrivacyUnit = Literal["record", "patient"]


@dataclass(frozen=True)
class SiteConfig:
    """One hospital: a folder of its data. `auto` recognises format and task from the folder."""

    name: str
    path: Path
    format: str = "auto"
    task: Literal["auto", "single-label", "multi-label", "regression", "segmentation"] = "auto"


@dataclass(frozen=True)
class DataConfig:
    """How every site prepares its data."""

    image_size: int = 48  # classification images and training crops, px
    largest_side: int = 256  # segmentation images are reduced to this, px
    split_seed: int = 0  # splits stay the same for all training seeds
    val_share: float = 0.15
    test_share: float = 0.2
    max_train_images: int = 0  # of a site, and of the corpus; 0 for all
    max_unreadable: float = 0.05  # above this share of unreadable files a site refuses to start


@dataclass(frozen=True)
class MimConfig:
    """Masked image modelling on the public corpus: everybody's start, and the baseline."""

    epochs: int = 20
    baseline_epochs: int = 0  # of `mim` and `contrastive` as methods; 0: as many as the start has
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    mask_ratio: float = 0.6
    patch: int = 8  # px; the unit that is masked


@dataclass(frozen=True)
class LocalConfig:
    """Training at a site, the same for every method."""

    stages: int = 4  # exchanges with the server
    epochs: int = 1  # local epochs a stage
    min_steps: int = 24  # batches an epoch at least: small sites' images come up repeatedly
    max_steps: int = 40  # batches an epoch at most, 0 for no limit
    dense_head_epochs: int = 2  # of a segmentation head on frozen features, before the encoder
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.05


@dataclass(frozen=True)
class FederationConfig:
    """What travels between sites and server, and what the server lets in."""

    wire: Wire = "float32"  # numbers in which a site writes its change
    compress: Compression = "none"  # of what a site sends
    rank: int = 0  # of the two factors of each matrix of weights that a site sends; 0: whole
    norm_factor: float = 10.0  # longest change, in medians of the stage; 0 for no limit
    echo: int = 0  # sites that must have signed what one is sent before it trains; 0 for none
    secure: bool = False  # secure aggregation: the server sees the sum of the changes alone
    secure_threshold: int = 0  # sites that unmask the sum; 0 for more than two thirds
    secure_clip: float = 1.0  # largest change of a single weight in a stage; beyond, it is cut


@dataclass(frozen=True)
class PrivacyConfig:
    """Differential privacy: of a site's images or patients, and of whole sites."""

    epsilon: float = 0.0  # of an image or patient, over all stages; 0 for none
    delta: float = 1e-5
    clip: float = 1.0  # longest gradient of an image or patient, Euclidean norm
    noise: float = 0.0  # standard deviation in clips; 0 computes it from epsilon
    unit: PrivacyUnit = "record"  # what is protected: an image, or a patient
    patient_images: int = 4  # of a patient in a step at most
    site_epsilon: float = 0.0  # of a whole site, over all stages; 0 for none
    site_clip: float = 1.0  # longest change of a site, Euclidean norm


@dataclass(frozen=True)
class UniversalConfig:
    """The universal method: what distinguishes it from federated averaging."""

    exchange: Exchange = "parallel"  # sites train at the same time, or one after the other
    weighting: Weighting = "equal"
    aggregation: Aggregation = "mean"
    trim: float = 0.125  # share of sites cut off at each end (trimmed-mean) or distrusted (krum)
    server_optimiser: ServerOptimiser = "momentum"
    server_learning_rate: float = 1.0
    server_momentum: float = 0.6
    head_first: bool = True
    anchor: Anchor = "feature"
    anchor_weight: float = 0.1
    guard: float = 0.0  # how much more a site weighs that loses; 0: sites do not tell
    distil_every: int = 4  # stages; 0 never distils
    distil_epochs: int = 2
    distil_learning_rate: float = 3e-4
    teacher_drop: float = 0.5


@dataclass(frozen=True)
class FedProxConfig:
    """FedProx: weight of the proximal term, mu of Li et al. 2020, equation 2."""

    mu: float = 0.01


@dataclass(frozen=True)
class EvaluationConfig:
    """How the resulting encoders are judged."""

    fine_tune_epochs: int = 3
    fine_tune_max_steps: int = 40  # batches an epoch at most, 0 for no limit
    bootstrap: int = 1000  # resamples


@dataclass(frozen=True)
class Config:
    """Everything that decides what a run computes."""

    sites: tuple[SiteConfig, ...]
    corpus: Path
    name: str = "federation"
    seeds: tuple[int, ...] = (0, 1, 2)
    methods: tuple[MethodName, ...] = USUAL_METHODS
    hold_out: tuple[str, ...] = ()  # sites that are judged on and never trained on
    preset: Literal["small", "base"] = "small"
    jobs: int = 1  # sites that train at the same time, each in a process of its own
    quick: bool = False
    data: DataConfig = field(default_factory=DataConfig)
    mim: MimConfig = field(default_factory=MimConfig)
    local: LocalConfig = field(default_factory=LocalConfig)
    federation: FederationConfig = field(default_factory=FederationConfig)
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
    universal: UniversalConfig = field(default_factory=UniversalConfig)
    fedprox: FedProxConfig = field(default_factory=FedProxConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)


def quick(config: Config) -> Config:
    """`config`, reduced to what ends within minutes on two cores: one seed, small images.

    Never raises a number that is already smaller, and `quick(quick(c)) == quick(c)`.
    """
    replace = dataclasses.replace
    local, evaluation, universal = config.local, config.evaluation, config.universal
    image_size = min(config.data.image_size, 32)
    return replace(
        config,
        quick=True,
        seeds=config.seeds[:1],
        data=replace(
            config.data,
            image_size=image_size,
            largest_side=min(config.data.largest_side, 128),
            max_train_images=min(config.data.max_train_images or 600, 600),
        ),
        mim=replace(
            config.mim,
            epochs=min(config.mim.epochs, 6),
            baseline_epochs=min(config.mim.baseline_epochs, 6),
            patch=config.mim.patch if image_size % config.mim.patch == 0 else 8,
        ),
        local=replace(
            local,
            stages=min(local.stages, 2),
            min_steps=min(local.min_steps, 12),
            max_steps=min(local.max_steps or 12, 12),
        ),
        universal=replace(
            universal,
            distil_every=min(universal.distil_every, 2),
            distil_epochs=min(universal.distil_epochs, 1),
        ),
        evaluation=replace(
            evaluation,
            fine_tune_epochs=min(evaluation.fine_tune_epochs, 1),
            fine_tune_max_steps=min(evaluation.fine_tune_max_steps or 16, 16),
        ),
    )
