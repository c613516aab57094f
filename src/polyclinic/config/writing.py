"""A configuration as TOML or nested dicts, such that reading gives it back."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from polyclinic.config.settings import Config


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
