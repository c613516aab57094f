"""Signatures of a site (Ed25519): its private key never leaves, its public one may be given away.

Needs the package cryptography, from the extra `deploy`.
"""

import base64
import binascii
import os
from pathlib import Path
from typing import TYPE_CHECKING

from polyclinic.errors import LedgerError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )


def create_key(path: Path) -> Path:
    """Make a private key at `path`, which only its owner may read, unless there is one.

    Returns the path of the public key, `path` with `.pub` after it. Raises `LedgerError`.
    """
    _need()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    public = path.with_name(path.name + ".pub")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            made = Ed25519PrivateKey.generate()
            pem = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            part = path.with_name(path.name + ".part")
            part.unlink(missing_ok=True)
            opened = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(opened, "wb") as file:
                file.write(pem)
            part.replace(path)
        half = _private(path).public_key()
        public.write_bytes(half.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    except OSError as error:
        raise LedgerError(f"{path}: no key can be made there ({error})") from None
    return public


def sign(key: Path, content: bytes) -> str:
    """The signature of `content` by the private key in the file `key`, in base64."""
    return base64.b64encode(_private(key).sign(content)).decode("ascii")


def is_signed(key: Path, content: bytes, signature: object) -> bool:
    """Whether `signature` is one of `content` by the owner of the public key in the file `key`.

    `LedgerError` where the key cannot be read.
    """
    public = _public(key)
    from cryptography.exceptions import InvalidSignature

    if not isinstance(signature, str):
        return False
    try:
        public.verify(base64.b64decode(signature, validate=True), content)
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def _private(path: Path) -> "Ed25519PrivateKey":
    _need()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise LedgerError(f"{path}: not a readable private key ({error}); restore it") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise LedgerError(f"{path}: expected a private key of Ed25519, got another kind")
    return key


def _public(path: Path) -> "Ed25519PublicKey":
    _need()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise LedgerError(
            f"{path}: not a readable public key ({error}); expected the file ending in .pub that "
            "the site gave away"
        ) from None
    if not isinstance(key, Ed25519PublicKey):
        raise LedgerError(f"{path}: expected a public key of Ed25519, got another kind")
    return key


def _need() -> None:
    try:
        import cryptography  # noqa: F401 - only whether it is there
    except ImportError:
        raise LedgerError(
            "signatures need the package cryptography; install polyclinic[deploy]"
        ) from None
