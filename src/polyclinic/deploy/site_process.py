"""`flwr-clientapp` at a site: Flower's program, which here runs Polyclinic and nothing else.

Flower's own would unpack an app that the server sends, and run it: whoever holds the server could
run any program at every site. Here what came is left packed. Needs Flower.
"""

from collections.abc import Callable

from flwr.supernode.cli import flwr_clientapp
from flwr.supernode.runtime import run_clientapp as runtime


def main() -> None:
    """Run one task with the app that is installed at the site."""
    for name in REPLACED:
        if not hasattr(runtime, name):  # another version of Flower: rather nothing than its way
            raise SystemExit(f"flwr-clientapp: Flower has no {name} to replace; install flwr 1.41")
    for name, ours in REPLACED.items():
        setattr(runtime, name, ours)
    flwr_clientapp()


def _left_packed(*_: object, **__: object) -> None:
    """In place of unpacking what the server sent."""


def _ours(*_: object, **__: object) -> Callable[..., object]:
    from polyclinic.deploy.client_app import app

    return lambda *_: app


REPLACED: dict[str, Callable[..., object]] = {
    "install_from_fab": _left_packed,
    "get_load_client_app_fn": _ours,
}
"""What Flower's program calls to unpack and to load an app, and what it calls here."""
