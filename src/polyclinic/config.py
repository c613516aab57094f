"""The configuration of a run: frozen dataclasses, read from TOML, every unknown key an error."""

import dataclasses
import difflib
import json
import math
import operator
import tomllib
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from polyclinic.errors import ConfigError

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


def load_config(path: Path) -> Config:
    """Read a TOML file, or a run's config.json; relative paths are relative to the file's folder.

    Paths become absolute, so that a run may be resumed from anywhere.
    """
    try:
        text = path.read_text(encoding="utf-8")
        table = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such configuration file; `polyclinic init FOLDER` writes one"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from None
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}: not valid JSON ({error})") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML ({error})") from None
    return config_from_dict(table, base=path.parent.absolute(), source=str(path))


def config_from_dict(table: dict[str, Any], *, base: Path, source: str = "config") -> Config:
    """Build a `Config` from nested dicts as TOML gives them; `ConfigError` names what is wrong."""
    config: Config = build_table(Config, table, base, source)
    _check(config, source)
    return config


def config_to_dict(config: Any) -> Any:
    """The inverse of `config_from_dict`: nested dicts of TOML's types, paths as strings."""
    if dataclasses.is_dataclass(config):
        fields = dataclasses.fields(config)
        return {f.name: config_to_dict(getattr(config, f.name)) for f in fields}
    if isinstance(config, tuple):
        return [config_to_dict(value) for value in config]
    return str(config) if isinstance(config, Path) else config


def config_to_toml(config: Config) -> str:
    """`config` as the text of a TOML file that `load_config` reads back."""
    table: dict[str, Any] = config_to_dict(config)
    blocks = [_lines({k: v for k, v in table.items() if k != "sites" and not isinstance(v, dict)})]
    blocks += [f"[{k}]\n{_lines(v)}" for k, v in table.items() if isinstance(v, dict)]
    blocks += [f"[[sites]]\n{_lines(site)}" for site in table["sites"]]
    return "\n".join(blocks)


def toml_value(value: Any) -> str:
    """One value (bool, int, float, str or a list of them) as TOML writes it.

    >>> print(toml_value([True, 0.5, 'a "b"']))
    [true, 0.5, "a \\"b\\""]
    """
    if isinstance(value, str):
        # JSON's strings are TOML's, except that TOML wants DEL escaped as well.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _lines(table: dict[str, Any]) -> str:
    return "".join(f"{key} = {toml_value(value)}\n" for key, value in table.items())


def build_table(kind: type, table: Any, base: Path, where: str) -> Any:
    """A frozen dataclass from a TOML table; `ConfigError` names an unknown or missing key."""
    if not isinstance(table, dict):
        raise ConfigError(f"{where}: expected a table, got {table!r}")
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    for key in table:
        if key not in fields:
            close = difflib.get_close_matches(key, fields, n=1)
            hint = f"; did you mean `{close[0]}`?" if close else f"; known: {', '.join(fields)}"
            raise ConfigError(f"{where}: unknown key `{key}`{hint}")
    for name, f in fields.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and name not in table:
            raise ConfigError(f"{where}: `{name}` is missing")
    return kind(**{k: _convert(hints[k], v, base, f"{where}: {k}") for k, v in table.items()})


def _convert(hint: Any, value: Any, base: Path, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return build_table(typing.cast(type, hint), value, base, where)
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise ConfigError(f"{where}: expected a list, got {value!r}")
        inner = get_args(hint)[0]
        return tuple(_convert(inner, v, base, f"{where}[{i}]") for i, v in enumerate(value))
    if get_origin(hint) is Literal:
        options = get_args(hint)
        if value not in options:
            close = difflib.get_close_matches(str(value), options, n=1)
            meant = f"; did you mean `{close[0]}`?" if close else ""
            known = ", ".join(map(str, options))
            raise ConfigError(f"{where}: expected one of {known}; got {value!r}{meant}")
        return value
    if hint is Path:
        if not isinstance(value, str):
            raise ConfigError(f"{where}: expected a path in quotes, got {value!r}")
        try:
            return base / Path(value).expanduser()  # an absolute path replaces `base`
        except RuntimeError:
            raise ConfigError(f"{where}: no home folder is known for {value!r}") from None
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:  # not isinstance: True is no number here
        raise ConfigError(f"{where}: expected {hint.__name__}, got {value!r}")
    return value


_FITS: dict[str, Callable[[float], bool]] = {
    "0 or more": lambda x: 0 <= x < math.inf,
    "1 or more": lambda x: 1 <= x < math.inf,
    "2 or more": lambda x: 2 <= x < math.inf,
    "16 or more": lambda x: 16 <= x < math.inf,
    "above 0": lambda x: 0 < x < math.inf,
    "above 0 and below 1": lambda x: 0 < x < 1,
    "0, or above 1": lambda x: x == 0 or 1 < x < math.inf,
    "0 to 1": lambda x: 0 <= x <= 1,
    "0 to below 1": lambda x: 0 <= x < 1,
    "0 to below 0.5": lambda x: 0 <= x < 0.5,
}
_RANGES = {
    "0 or more": """data.split_seed data.max_train_images mim.weight_decay mim.baseline_epochs
        local.min_steps federation.secure_threshold federation.echo federation.rank
        local.max_steps local.dense_head_epochs local.weight_decay universal.anchor_weight
        universal.guard universal.distil_every universal.distil_epochs fedprox.mu
        privacy.epsilon privacy.noise privacy.site_epsilon
        evaluation.fine_tune_epochs evaluation.fine_tune_max_steps""",
    "1 or more": """jobs mim.epochs mim.batch_size local.stages local.epochs evaluation.bootstrap
        privacy.patient_images""",
    "2 or more": "local.batch_size",  # the heads normalise over a batch
    "16 or more": "data.largest_side",
    "above 0": """mim.learning_rate local.learning_rate universal.server_learning_rate
        universal.distil_learning_rate privacy.clip privacy.site_clip
        federation.secure_clip""",
    "above 0 and below 1": "data.val_share data.test_share mim.mask_ratio privacy.delta",
    "0, or above 1": "federation.norm_factor",
    "0 to 1": "data.max_unreadable",
    "0 to below 1": "universal.server_momentum universal.teacher_drop",
    "0 to below 0.5": "universal.trim",
}


_MOST = {
    "jobs": (256, "each is a process of its own"),
    "data.image_size": (1024, "the networks are small, and made for small images"),
    "data.largest_side": (4096, "whole images go through the network"),
    "mim.batch_size": (65_536, "a batch has to fit into memory"),
    "local.batch_size": (65_536, "a batch has to fit into memory"),
    "federation.secure_clip": (1000, "no weight moves that far, and precision is lost"),
    "privacy.epsilon": (1000, "that large, it protects nobody"),
    "privacy.site_epsilon": (1000, "that large, it protects nobody"),
    "privacy.delta": (0.001, "it is the chance that there is no protection at all"),
    "privacy.clip": (1e6, "no gradient is that long, and noise grows with it"),
    "privacy.site_clip": (1e6, "no change is that long, and noise grows with it"),
    "privacy.noise": (1e6, "nothing is left to learn"),
    "privacy.patient_images": (64, "the gradient of each has to fit into memory"),
    "evaluation.bootstrap": (1_000_000, "intervals do not change beyond some thousands"),
}
"""Above this a number is a slip, which would else show as a machine without memory."""


def _check_folders(config: Config, where: str) -> None:
    """Refuse one folder as two sites, or a site's folder as the public corpus."""
    seen: dict[Path, str] = {}
    for site in config.sites:
        folder = site.path.resolve()
        if folder in seen:
            raise ConfigError(
                f"{where}: `{seen[folder]}` and `{site.name}` are the same folder {site.path}; "
                "expected a folder of its own for each site"
            )
        seen[folder] = site.name
    if config.corpus and config.corpus.resolve() in seen:
        raise ConfigError(
            f"{where}: the corpus {config.corpus} is the site `{seen[config.corpus.resolve()]}`; "
            "its images would reach the server: expected a folder of public images"
        )


def check_privacy(config: Config, where: str) -> None:
    """Refuse settings under which what is claimed of privacy would not hold."""
    privacy, universal = config.privacy, config.universal
    if privacy.noise and not privacy.epsilon:
        raise ConfigError(
            f"{where}: privacy.noise is {privacy.noise:g}, but privacy.epsilon is 0, which is no "
            "privacy; set the epsilon that may be spent"
        )
    if privacy.epsilon and (open_ := [m for m in config.methods if m in NEVER_PRIVATE]):
        raise ConfigError(
            f"{where}: privacy.epsilon is set, and the sites of `{open_[0]}` cannot train "
            "privately; leave it out of methods"
        )
    if not privacy.site_epsilon:
        return
    refused = f"{where}: privacy.site_epsilon needs"
    by_size = [m for m in config.methods if m in BY_SIZE]
    if by_size:
        raise ConfigError(
            f"{refused} sites of equal weight, and `{by_size[0]}` weighs them by size, so that one "
            "site may change the mean by more than the noise covers; leave it out of methods"
        )
    for key, value, needed, why in (
        ("universal.weighting", universal.weighting, "equal", "else a site may outweigh the noise"),
        ("universal.aggregation", universal.aggregation, "mean", "the noise is that of a mean"),
        ("universal.exchange", universal.exchange, "parallel", "the noise is that of a mean"),
        (
            "universal.distil_every",
            universal.distil_every,
            0,
            "distillation learns from each site's encoder, without noise",
        ),
        (
            "federation.norm_factor",
            config.federation.norm_factor,
            0,
            "by the median, one site may decide whether another takes part",
        ),
    ):
        if value != needed:
            raise ConfigError(f"{refused} {key} = {toml_value(needed)}, got {value!r}: {why}")


def secure_threshold(config: Config) -> int:
    """How many sites must answer, at the end of a stage, to unmask the sum of their changes.

    More than two thirds by default: then a server that lies to sites about who has dropped out,
    and colludes with as many as may be absent, still cannot unmask a single one.
    """
    sites = len(config.sites) - len(config.hold_out)
    return config.federation.secure_threshold or 2 * sites // 3 + 1


def check_secure(config: Config, where: str) -> None:
    """Refuse what a server cannot do that sees sums of changes alone (`sum-only` mode)."""
    federation, universal = config.federation, config.universal
    if not federation.secure:
        return
    settings: list[tuple[str, Any, Any, str]] = [
        ("federation.wire", federation.wire, "float32", "masked numbers have a width of their own"),
        ("federation.compress", federation.compress, "none", "masked numbers look like noise"),
        ("federation.rank", federation.rank, 0, "factors of changes do not add up"),
        (
            "federation.norm_factor",
            federation.norm_factor,
            0.0,
            "nobody can measure how long a single change is; secure_clip limits its numbers",
        ),
        (
            "privacy.site_epsilon",
            config.privacy.site_epsilon,
            0.0,
            "the server cannot shorten single changes, on which its noise is based",
        ),
    ]
    if "universal" in config.methods:
        settings += [
            (
                "universal.distil_every",
                universal.distil_every,
                0,
                "distillation (`teachers` mode) learns from each site's own encoder",
            ),
            (
                "universal.aggregation",
                universal.aggregation,
                "mean",
                "any other compares single changes",
            ),
            (
                "universal.exchange",
                universal.exchange,
                "parallel",
                "in turn, each site trains what a single change has left",
            ),
        ]
    if wrong := [(key, need, got, why) for key, got, need, why in settings if got != need]:
        said = "; ".join(f"{k} = {toml_value(n)}, got {g!r} ({why})" for k, n, g, why in wrong)
        raise ConfigError(
            f"{where}: federation.secure: the server sees the sum of the changes alone, which "
            f"needs {said}"
        )
    sites = len(config.sites) - len(config.hold_out)
    if sites < 3:
        raise ConfigError(
            f"{where}: federation.secure: expected 3 sites or more that train, got {sites}; of "
            "two, each learns the other's change from the sum"
        )
    if not sites < 2 * secure_threshold(config) <= 2 * sites:
        raise ConfigError(
            f"{where}: federation.secure_threshold: expected {sites // 2 + 1} to {sites} (more "
            f"than half of the sites that train, and at most all), or 0; got "
            f"{federation.secure_threshold}"
        )


def _check_echo(config: Config, where: str) -> None:
    """Refuse so few signatures that two groups of sites could have them for two encoders."""
    echo, sites = config.federation.echo, len(config.sites) - len(config.hold_out)
    if not echo:
        return
    if config.federation.secure:
        raise ConfigError(
            f"{where}: federation.echo: under federation.secure sites compare what they are sent "
            "already; leave one of the two out"
        )
    if config.universal.exchange == "cyclic" and "universal" in config.methods:
        raise ConfigError(
            f'{where}: federation.echo: with universal.exchange = "cyclic" each site is sent an '
            "encoder of its own, and there is nothing to compare; leave one of the two out"
        )
    if not sites < 2 * echo <= 2 * sites:
        raise ConfigError(
            f"{where}: federation.echo: expected {sites // 2 + 1} to {sites} (more than half of "
            f"the sites that train, and at most all), or 0; got {echo}"
        )


def _check_guard(config: Config, where: str) -> None:
    """Refuse to heed gains that are not told, or that weights have no say in."""
    if not config.universal.guard or "universal" not in config.methods:
        return
    settings = [
        ("federation.secure", config.federation.secure, False, "sites weigh themselves"),
        ("privacy.epsilon", config.privacy.epsilon, 0.0, "no score leaves a site"),
        ("privacy.site_epsilon", config.privacy.site_epsilon, 0.0, "sites weigh the same"),
        ("universal.aggregation", config.universal.aggregation, "mean", "others ignore weights"),
    ]
    for key, got, need, why in settings:
        if got != need:
            raise ConfigError(
                f"{where}: universal.guard: needs {key} = {toml_value(need)} ({why}), got "
                f"{toml_value(got)}; leave one of the two out"
            )


def _check(config: Config, where: str) -> None:
    """Refuse values of the right type that no run can use."""
    if not is_name(config.name):
        raise ConfigError(f"{where}: name {config.name!r}: use letters, digits, - and _")
    names = [site.name for site in config.sites]
    if not names:
        raise ConfigError(f"{where}: no site; add a [[sites]] table with name and path")
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{where}: two sites are called `{name}`; names must differ")
        if not is_name(name):
            raise ConfigError(f"{where}: site name {name!r}: use letters, digits, - and _")
    _check_folders(config, where)
    for name in config.hold_out:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"; did you mean `{close[0]}`?" if close else f"; sites: {', '.join(names)}"
            raise ConfigError(f"{where}: hold_out: no site is called {name!r}{hint}")
        if config.hold_out.count(name) > 1:
            raise ConfigError(f"{where}: hold_out: `{name}` stands there twice; name it once")
    if set(names) <= set(config.hold_out):
        raise ConfigError(f"{where}: hold_out: every site is held out; leave one to train on")
    for key, values in (("seeds", config.seeds), ("methods", config.methods)):
        if not values or len(set(values)) < len(values):
            raise ConfigError(f"{where}: {key}: expected at least one, each once, got {[*values]}")
    for kind, keys in _RANGES.items():
        for key in keys.split():
            number = operator.attrgetter(key)(config)
            if not _FITS[kind](number):  # every range is false for nan, too
                raise ConfigError(f"{where}: {key}: expected {kind}, got {number}")
    for key, (most, why) in _MOST.items():
        number = operator.attrgetter(key)(config)
        if number > most:
            raise ConfigError(f"{where}: {key}: expected at most {most} ({why}), got {number}")
    for seed in config.seeds:
        if seed < 0:
            raise ConfigError(f"{where}: seeds: expected 0 or more, got {seed}")
    check_privacy(config, where)
    check_secure(config, where)
    _check_echo(config, where)
    _check_guard(config, where)
    data, mim = config.data, config.mim
    if data.val_share + data.test_share >= 0.9:
        raise ConfigError(
            f"{where}: data.val_share and data.test_share: expected a sum below 0.9, so that "
            f"enough is left to train on; got {data.val_share + data.test_share:g}"
        )
    if mim.patch < 4 or mim.patch % 4:
        raise ConfigError(f"{where}: mim.patch: expected a multiple of 4 px, got {mim.patch}")
    size = data.image_size
    if size < 16 or size % 16 or size % mim.patch:
        raise ConfigError(
            f"{where}: data.image_size: expected a multiple of 16 px and of mim.patch "
            f"({mim.patch}), got {size}"
        )


def is_name(text: str) -> bool:
    """Whether `text` is fit to name a site or a folder: letters, digits, `-` and `_`."""
    return text.replace("-", "").replace("_", "").isalnum()
