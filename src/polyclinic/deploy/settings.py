"""What a federation across machines is told: the file of a run, and a table `[server]`.

Sites have a name and no path: where their data lie is each site's own business.
"""

import tomllib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from polyclinic.config import Config, build_table, config_from_dict, config_to_dict
from polyclinic.deploy.address import wrong_address
from polyclinic.deploy.folders import read_record, write_record
from polyclinic.errors import ConfigError

MOST_DEADLINE = 11 * 3600.0  # s

DEPLOYABLE = ("universal", "fedavg", "fedprox", "mim")
"""Methods of which each part stays where it belongs when the sites are other machines."""


@dataclass(frozen=True)
class ServerConfig:
    """How the sites reach the server, and how long it waits for them."""

    address: str = "127.0.0.1"  # by which the sites reach it: a name or an IP address
    port: int = 8443
    listen: str = "127.0.0.1"  # 0.0.0.0 for all of the machine's networks
    quorum: int = 0  # sites without which no stage ends; 0 for more than half
    deadline: float = 3600.0  # s; how long a stage waits for all sites
    invite_days: float = 7.0  # how long an invitation is good for


@dataclass(frozen=True)
class Deployment:
    """A federation across machines."""

    config: Config
    server: ServerConfig

    @property
    def names(self) -> tuple[str, ...]:
        """The sites, in the file's order."""
        return tuple(site.name for site in self.config.sites)

    @property
    def quorum(self) -> int:
        """Sites without which no stage ends."""
        return self.server.quorum or len(self.names) // 2 + 1


def load_deployment(path: Path) -> Deployment:
    """Read a federation's TOML file; `ConfigError` names what is wrong in it.

    Without `methods` it trains by `universal`, without `seeds` once, with seed 0.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such configuration file; docs/deploy.md shows one to start from"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML ({error})") from None
    base = path.parent.absolute()
    server: ServerConfig = build_table(
        ServerConfig, table.pop("server", {}), base, f"{path}: server"
    )
    table.setdefault("methods", ["universal"])
    table.setdefault("seeds", [0])
    for site in table.get("sites", []):
        _without_path(site, path)
    config = config_from_dict(table, base=base, source=str(path))
    _check(config, server, path)
    return Deployment(_elsewhere(config), server)


def keep_deployment(path: Path, deployment: Deployment) -> None:
    """Write `deployment` with absolute paths, for what runs inside Flower."""
    server = asdict(deployment.server)
    write_record(path, {"server": server, "config": config_to_dict(deployment.config)})


def kept_deployment(path: Path) -> Deployment:
    """Read what `keep_deployment` wrote."""
    record = read_record(path)
    config = config_from_dict(record["config"], base=path.parent, source=str(path))
    return Deployment(_elsewhere(config), ServerConfig(**record["server"]))


def _elsewhere(config: Config) -> Config:
    """`config` without anything that depends on where its file lies; one site trains at a time."""
    sites = tuple(replace(s, path=Path("elsewhere", s.name)) for s in config.sites)
    return replace(config, sites=sites, jobs=1)


def _without_path(site: Any, path: Path) -> None:
    if not isinstance(site, dict):
        return  # the general check says what is wrong
    for key in ("path", "format", "task"):
        if key in site:
            raise ConfigError(
                f"{path}: sites: `{key}` is the site's own business; expected a name alone, the "
                "site says the rest to `polyclinic site join`"
            )
    site["path"] = f"elsewhere/{site.get('name')}"


def _check(config: Config, server: ServerConfig, path: Path) -> None:
    for method in config.methods:
        if method not in DEPLOYABLE:
            raise ConfigError(
                f"{path}: methods: expected some of {', '.join(DEPLOYABLE)}, got `{method}`, "
                "which needs all data in one place or sends nothing; simulate it with "
                "`polyclinic run`"
            )
    if config.hold_out:
        raise ConfigError(
            f"{path}: hold_out: expected none; a site that trains nothing need not join"
        )
    if not 0 <= server.quorum <= len(config.sites):
        raise ConfigError(
            f"{path}: server: quorum: expected 0 to {len(config.sites)}, the number of sites, "
            f"got {server.quorum}"
        )
    for key, value, most in (
        ("deadline", server.deadline, MOST_DEADLINE),
        ("invite_days", server.invite_days, float("inf")),
    ):
        if not 0 < value < float("inf"):
            raise ConfigError(f"{path}: server: {key}: expected above 0, got {value}")
        if value > most:
            raise ConfigError(
                f"{path}: server: {key}: expected {most:g} at most, got {value}: Flower keeps a "
                "message for 12 hours; train shorter stages (local.epochs, local.max_steps)"
            )
    if not 0 < server.port < 65536:
        raise ConfigError(f"{path}: server: port: expected 1 to 65535, got {server.port}")
    for key, address in (("address", server.address), ("listen", server.listen)):
        if wrong := wrong_address(address):
            raise ConfigError(f"{path}: server: {key}: {wrong}")
