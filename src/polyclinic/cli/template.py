"""The commented configuration that `polyclinic init` writes."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from polyclinic.config import Config, SiteConfig, config_to_dict, toml_value
from polyclinic.errors import ConfigError

_COLUMN = 36  # where the explanations start
_TITLES = {
    "data": "how every site prepares its data",
    "mim": "masked image modelling on the corpus: everybody's start, and the baseline",
    "local": "training at a site, the same for every method",
    "federation": "what travels, and what the server lets in",
    "privacy": "differential privacy; needs the extra `privacy`",
    "universal": "the universal method",
    "fedprox": "the baseline FedProx",
    "evaluation": "how the resulting encoders are judged",
}
EXPLAINED = {
    "corpus": "public images without labels, for the server",
    "name": "names the run directory",
    "seeds": "a whole federation for each; intervals need several",
    "methods": "what is compared",
    "hold_out": "sites that are judged on and never trained on",
    "preset": "size of the encoder: small or base",
    "jobs": "sites that train at the same time",
    "quick": "small images, few steps: to see whether it works",
    "data.image_size": "px; classification images and training crops",
    "data.largest_side": "px; larger segmentation images are reduced",
    "data.split_seed": "splits stay the same for all seeds above",
    "data.val_share": "where a data set comes without splits",
    "data.test_share": "likewise",
    "data.max_train_images": "of a site, and of the corpus, drawn at random; 0: all",
    "data.max_unreadable": "a site with a larger share of bad files refuses",
    "mim.epochs": "passes over the corpus",
    "mim.baseline_epochs": "of mim and contrastive as methods; 0: as many as the start has",
    "mim.batch_size": "images",
    "mim.learning_rate": "of AdamW",
    "mim.weight_decay": "of AdamW",
    "mim.mask_ratio": "share of patches that are hidden",
    "mim.patch": "px; what is hidden as one",
    "local.stages": "exchanges with the server",
    "local.epochs": "local epochs in a stage",
    "local.min_steps": "batches an epoch at least: small sites' images come up repeatedly",
    "local.max_steps": "batches an epoch at most; 0: no limit",
    "local.dense_head_epochs": "of a segmentation head alone, on frozen features",
    "local.batch_size": "images",
    "local.learning_rate": "of AdamW",
    "local.weight_decay": "of AdamW",
    "federation.wire": "numbers in which a site sends its change: float32, float16 or int8",
    "federation.compress": "what a site sends: none or zlib",
    "federation.norm_factor": "longest change let in, in medians of the stage; 0: any",
    "federation.rank": "of the two factors of each matrix of weights that is sent; 0: whole",
    "federation.echo": "sites that must have signed what one is sent before it trains; 0: none",
    "federation.secure": "secure aggregation: the server sees the sum of the changes alone",
    "federation.secure_threshold": "sites that unmask the sum; 0: more than two thirds",
    "federation.secure_clip": "largest change of a single weight in a stage; beyond, it is cut",
    "privacy.epsilon": "budget of an image or patient, over all stages; 0: no privacy",
    "privacy.delta": "of both budgets; below 1 / images of the largest site",
    "privacy.clip": "longest gradient of an image or patient",
    "privacy.noise": "standard deviation in clips; 0: computed from epsilon",
    "privacy.unit": "what is protected: record (an image) or patient",
    "privacy.patient_images": "of a patient in a step at most",
    "privacy.site_epsilon": "budget of a whole site, over all stages; 0: no privacy",
    "privacy.site_clip": "longest change of a site",
    "universal.exchange": "parallel, or cyclic: the encoder goes from site to site",
    "universal.weighting": "of the sites: size, sqrt-size or equal",
    "universal.aggregation": "mean, trimmed-mean, median or krum",
    "universal.trim": "share of sites cut off at each end (trimmed-mean) or distrusted (krum)",
    "universal.server_optimiser": "none, momentum or adam",
    "universal.server_learning_rate": "of momentum or adam; `none` ignores it",
    "universal.server_momentum": "of the server's optimiser",
    "universal.head_first": "fit the head before the encoder moves",
    "universal.anchor": "what holds a site near the rest: none, proximal, feature",
    "universal.anchor_weight": "of that term in the loss",
    "universal.guard": "how much more a site weighs that loses; 0: sites do not tell",
    "universal.distil_every": "stages; 0: never",
    "universal.distil_epochs": "passes over the corpus",
    "universal.distil_learning_rate": "of AdamW at the server",
    "universal.teacher_drop": "share of sites left out of each batch",
    "fedprox.mu": "weight of the proximal term",
    "evaluation.fine_tune_epochs": "passes over a site's training images",
    "evaluation.fine_tune_max_steps": "batches an epoch at most; 0: no limit",
    "evaluation.bootstrap": "resamples behind each interval",
}
"""What each key means; the tests hold this against the dataclasses."""


def config_template(
    sites: Sequence[SiteConfig],
    corpus: Path,
    *,
    name: str,
    folder: Path,
    chosen: Mapping[str, Any] | None = None,
) -> str:
    """The text of a configuration file that is to lie in `folder`.

    Every key is there: those with a value of their own are written, the others stand as comments
    with their defaults. `chosen` maps keys as in `EXPLAINED` to values other than the default.
    """
    defaults = config_to_dict(Config(sites=(), corpus=Path()))
    written = {"corpus": _path(corpus, folder), "name": name, **(chosen or {})}
    lines = [
        "# A federation for Polyclinic. Start it with `polyclinic run` and the name of this file.",
        "# Lines like `# key = value` show the default; remove the `# ` to change it.",
        "# Paths are relative to this file.",
        "",
    ]
    top = [key for key in EXPLAINED if "." not in key]
    lines += [_line(key, key, defaults[key], written) for key in top]
    for section, title in _TITLES.items():
        lines += ["", f"# {title}", f"[{section}]"]
        for key, default in defaults[section].items():
            lines.append(_line(f"{section}.{key}", key, default, written))
    for site in sites:
        lines += ["", "[[sites]]"]
        for field in dataclasses.fields(site):
            value = getattr(site, field.name)
            text = _path(value, folder) if isinstance(value, Path) else value
            lines.append(f"{field.name} = {toml_value(text)}")
    return "\n".join(lines) + "\n"


def _line(full: str, key: str, default: Any, written: Mapping[str, Any]) -> str:
    value = written.get(full, default)
    setting = f"{'' if full in written else '# '}{key} = {toml_value(value)}"
    return f"{setting:<{_COLUMN}}  # {EXPLAINED[full]}"


def _path(path: Path, folder: Path) -> str:
    """`path` as seen from `folder`, absolute where the two share nothing but the root."""
    path, folder = path.resolve(), folder.resolve()
    shared = os.path.commonpath([path, folder])
    text = str(path) if shared == path.anchor else Path(os.path.relpath(path, folder)).as_posix()
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ConfigError(f"{path!r}: a path that is not UTF-8; rename the folder") from None
    return text
