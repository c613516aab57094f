"""A configuration from TOML or JSON: every unknown key an error, every value of its type."""

import dataclasses
import json
import tomllib
import typing
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from polyclinic.config.checks import check_config
from polyclinic.config.settings import Config
from polyclinic.errors import ConfigError, did_you_mean


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
    check_config(config, source)
    return config


def build_table(kind: type, table: Any, base: Path, where: str) -> Any:
    """A frozen dataclass from a TOML table; `ConfigError` names an unknown or missing key."""
    if not isinstance(table, dict):
        raise ConfigError(f"{where}: expected a table, got {table!r}")
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    for key in table:
        if key not in fields:
            hint = did_you_mean(key, fields, f"; known: {', '.join(fields)}")
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
            meant = did_you_mean(str(value), options)
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
