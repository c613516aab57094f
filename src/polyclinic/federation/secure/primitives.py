"""The cryptography that secure aggregation needs, from the package cryptography (extra `deploy`).

Key agreement is X25519 (RFC 7748) with HKDF-SHA256 (RFC 5869), sealing is AES-256-GCM, the
pseudorandom generator is ChaCha20 (RFC 8439), signatures are Ed25519 (RFC 8032). Keys are 32 raw
bytes, so that they can be kept, sent and compared. Nothing here is an algorithm of our own.
"""

import os
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from polyclinic.errors import KnowledgeError, RunError

Words = NDArray[np.unsignedinteger]
"""Integers modulo 2**32 (uint32) or 2**64 (uint64), in one row."""

Bits = Literal[32, 64]
Entropy = Callable[[int], bytes]
"""(number) -> as many random bytes. The operating system's, except in tests."""

KEY = 32
_NONCE = 12  # bytes, of AES-GCM


def need() -> None:
    """`RunError` where the package cryptography is not there."""
    try:
        import cryptography  # noqa: F401 - only whether it is there
    except ImportError:
        raise RunError(
            "federation.secure needs the package cryptography; install polyclinic[deploy]"
        ) from None


def system_entropy(number: int) -> bytes:
    """Random bytes of the operating system."""
    return os.urandom(number)


def public_of(private: bytes) -> bytes:
    """The public half of an X25519 key."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def agree(private: bytes, public: bytes, context: bytes) -> bytes:
    """The key that the owners of two X25519 keys share for `context`, and nobody else knows.

    `KnowledgeError` for a public key with which everybody would know the result.
    """
    from cryptography.hazmat.primitives.asymmetric.x25519 import (
        X25519PrivateKey,
        X25519PublicKey,
    )

    own = X25519PrivateKey.from_private_bytes(private)
    try:
        shared = own.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise KnowledgeError(
            "a public key of X25519 leads to no secret; expected 32 bytes that a site made"
        ) from None
    return derived(shared, context)


def derived(secret: bytes, context: bytes) -> bytes:
    """A key for one purpose, which `context` names, from a secret (HKDF-SHA256)."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(algorithm=SHA256(), length=KEY, salt=None, info=context).derive(secret)


def sealed(key: bytes, content: bytes, about: bytes, entropy: Entropy) -> bytes:
    """`content`, encrypted and authenticated together with `about`, which is not sent."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = entropy(_NONCE)
    return nonce + AESGCM(key).encrypt(nonce, content, about)


def opened(key: bytes, box: bytes, about: bytes) -> bytes:
    """What was `sealed`; `KnowledgeError` where a bit of it, or of `about`, was changed."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        return AESGCM(key).decrypt(box[:_NONCE], box[_NONCE:], about)
    except (InvalidTag, ValueError):
        raise KnowledgeError("what was sealed does not open") from None


def keystream(key: bytes, count: int, bits: Bits) -> Words:
    """`count` pseudorandom words (ChaCha20 from its first block; little endian).

    A key must have one purpose, because the same key gives the same words.
    """
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

    width = bits // 8
    stream = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor().update(bytes(count * width))
    return np.frombuffer(stream, f"<u{width}").astype(f"u{width}", copy=False)


def identity_of(private: bytes) -> bytes:
    """The public half of an Ed25519 key."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def signed(private: bytes, content: bytes) -> bytes:
    """The signature of `content` by the owner of a private Ed25519 key."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(private).sign(content)


def is_signed(public: bytes, content: bytes, signature: bytes) -> bool:
    """Whether the owner of a public Ed25519 key signed `content`."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, content)
    except (InvalidSignature, ValueError):
        return False
    return True
