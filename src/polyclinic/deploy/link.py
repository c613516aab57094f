"""A connection to the server: TLS, with a certificate that the invitation's authority has signed.

Directly, or through an HTTP proxy where the surroundings name one, as Flower's own connections go.
"""

import base64
import http.client
import ssl
import urllib.parse
import urllib.request

from polyclinic.errors import ConfigError

_HERE = ("127.0.0.1", "localhost", "::1")


def no_proxy() -> str:
    """What is reached without a proxy: whatever the surroundings say, and this machine."""
    said = urllib.request.getproxies_environment().get("no", "")
    return ",".join(filter(None, (said, *_HERE)))


def trusting(authority: str) -> ssl.SSLContext:
    """TLS that trusts `authority` (PEM) and nobody else; `ConfigError` where it is none."""
    try:
        # with an empty text it would trust what the machine trusts
        return ssl.create_default_context(cadata=authority or "nothing")
    except (ssl.SSLError, ValueError, TypeError) as error:
        raise ConfigError(
            f"the certificate of the server's authority is broken ({error})"
        ) from None


def opened(
    address: str, port: int, context: ssl.SSLContext, seconds: float
) -> http.client.HTTPSConnection:
    """A connection that is made when it is first used; silence for `seconds` ends it.

    `https_proxy`, else `all_proxy`, and `no_proxy` in the surroundings count, in either case of
    letters. Raises `ConfigError` where they name no proxy that can be used.
    """
    named = urllib.request.getproxies_environment()
    proxy = named.get("https") or named.get("all")
    if not proxy or address in _HERE or urllib.request.proxy_bypass(address):
        return http.client.HTTPSConnection(address, port, context=context, timeout=seconds)
    try:
        parts = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        host, where = parts.hostname, parts.port or 80
    except ValueError:
        host = None
    if not host or parts.scheme != "http":
        shown = proxy.rpartition("@")[2]  # without name and password
        raise ConfigError(
            f"https_proxy: expected http://HOST:PORT, got {shown!r}; name a proxy that does "
            f"CONNECT, or add {address} to no_proxy"
        )
    link = http.client.HTTPSConnection(host, where, context=context, timeout=seconds)
    link.set_tunnel(address, port, _credentials(parts))
    return link


def _credentials(parts: urllib.parse.SplitResult) -> dict[str, str]:
    if parts.username is None:
        return {}
    said = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(said.encode()).decode()}"}
