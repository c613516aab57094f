"""Addresses of machines: what may stand for one, and how it is written with a port."""

import ipaddress
import re

_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_LONGEST = 253  # characters of a name in DNS


def wrong_address(text: str) -> str:
    """Why `text` is neither a host's name nor an IP address; nothing where it is one.

    >>> wrong_address("polyclinic.example.org"), wrong_address("192.0.2.1"), wrong_address("::1")
    ('', '', '')
    >>> wrong_address("klinik-münchen.de")
    "expected a name in ASCII, got 'klinik-münchen.de'; write xn--klinik-mnchen-3ob.de"
    """
    if is_ip(text):
        return ""
    labels = text.split(".")
    numbers = labels[-1].isdecimal()  # an IP address with a slip in it
    if len(text) <= _LONGEST and all(map(_LABEL.fullmatch, labels)) and not numbers:
        return ""
    if not text.isascii():
        try:
            name = text.encode("idna").decode("ascii")
        except UnicodeError:
            name = ""
        if name and not wrong_address(name):
            return f"expected a name in ASCII, got {text!r}; write {name}"
    return f"expected a name or an IP address, got {text[:80]!r}"


def is_ip(text: str) -> bool:
    """Whether `text` is an IP address, of version 4 or 6, and not one of a link (`%`)."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def with_port(address: str, port: int) -> str:
    """An address and a port, as URLs have them.

    >>> with_port("192.0.2.1", 8443), with_port("2001:db8::1", 8443)
    ('192.0.2.1:8443', '[2001:db8::1]:8443')
    """
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
