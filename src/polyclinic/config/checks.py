"""What no run can use: numbers out of range, and settings that contradict each other."""

import math
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

from polyclinic.config.settings import BY_SIZE, NEVER_PRIVATE, Config
from polyclinic.config.writing import toml_value
from polyclinic.errors import ConfigError, did_you_mean

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


def check_config(config: Config, where: str) -> None:
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
            hint = did_you_mean(name, names, f"; sites: {', '.join(names)}")
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


def is_name(text: str) -> bool:
    """Whether `text` is fit to name a site or a folder: letters, digits, `-` and `_`."""
    return text.replace("-", "").replace("_", "").isalnum()
