"""The smallest configuration, with changes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polyclinic.config import Config, config_from_dict

SMALLEST: dict[str, Any] = {"corpus": "corpus", "sites": [{"name": "a", "path": "a"}]}


@pytest.fixture
def build() -> Callable[..., Config]:
    """A function: sections and keys to the configuration that has them, read from `f.toml`."""

    def built(**changes: Any) -> Config:
        return config_from_dict({**SMALLEST, **changes}, base=Path("/base"), source="f.toml")

    return built
