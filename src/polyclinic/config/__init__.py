"""The configuration of a run: every setting, how it is read and written, and what is refused."""

from polyclinic.config.checks import (
    check_privacy,
    check_secure,
    is_name,
    secure_threshold,
)
from polyclinic.config.reading import (
    build_table,
    config_from_dict,
    load_config,
)
from polyclinic.config.settings import (
    METHODS,
    USUAL_METHODS,
    Compression,
    Config,
    DataConfig,
    EvaluationConfig,
    FederationConfig,
    FedProxConfig,
    LocalConfig,
    MethodName,
    MimConfig,
    PrivacyConfig,
    PrivacyUnit,
    SiteConfig,
    UniversalConfig,
    Weighting,
    Wire,
    quick,
)
from polyclinic.config.writing import (
    config_to_dict,
    config_to_toml,
    toml_value,
)

__all__ = [
    "METHODS",
    "USUAL_METHODS",
    "Compression",
    "Config",
    "DataConfig",
    "EvaluationConfig",
    "FedProxConfig",
    "FederationConfig",
    "LocalConfig",
    "MethodName",
    "MimConfig",
    "PrivacyConfig",
    "PrivacyUnit",
    "SiteConfig",
    "UniversalConfig",
    "Weighting",
    "Wire",
    "build_table",
    "check_privacy",
    "check_secure",
    "config_from_dict",
    "config_to_dict",
    "config_to_toml",
    "is_name",
    "load_config",
    "quick",
    "secure_threshold",
    "toml_value",
]
