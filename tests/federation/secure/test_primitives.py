"""The cryptography against published vectors, and what it refuses."""

import sys

import numpy as np
import pytest

from polyclinic.errors import KnowledgeError, RunError
from polyclinic.federation.secure import primitives as p


def test_the_generator_is_chacha20_from_its_first_block():
    # RFC 8439, appendix A.1, test vectors 1 and 2: the key of zeros
    expected = bytes.fromhex(
        "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
        "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586"
        "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
    )
    for bits in (32, 64):
        words = p.keystream(bytes(32), len(expected) * 8 // bits, bits)
        assert words.dtype == np.dtype(f"u{bits // 8}")
        assert words.astype(f"<u{bits // 8}").tobytes() == expected
    assert p.keystream(bytes(32), 0, 32).size == 0


def test_public_keys_are_those_of_the_standard():
    # RFC 7748, section 6.1; RFC 8032, section 7.1, test 1
    x25519 = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"
    ed25519 = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
    assert p.public_of(bytes.fromhex(x25519)).hex() == (
        "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    )
    assert p.identity_of(bytes.fromhex(ed25519)).hex() == (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    )


def test_derivation_is_hkdf_without_salt():
    # RFC 5869, appendix A.3
    found = p.derived(bytes([0x0B] * 22), b"").hex()
    assert found == "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"


def test_two_sites_agree_on_a_key_that_depends_on_its_purpose():
    one, two, three = (bytes([n] * 32) for n in (1, 2, 3))
    shared = p.agree(one, p.public_of(two), b"masks")
    assert shared == p.agree(two, p.public_of(one), b"masks")
    others = {p.agree(one, p.public_of(two), b"shares"), p.agree(one, p.public_of(three), b"masks")}
    assert len({shared} | others) == 3


@pytest.mark.parametrize("public", [bytes(32), b"\1" + bytes(31), b"short"])
def test_a_key_with_which_everybody_knows_the_secret_is_refused(public):
    with pytest.raises(KnowledgeError, match=r"a public key of X25519 leads to no secret"):
        p.agree(bytes([1] * 32), public, b"")


def test_what_is_sealed_opens_as_it_was_or_not_at_all():
    key, box = bytes(32), p.sealed(bytes(32), b"shares", b"about", p.system_entropy)
    assert p.opened(key, box, b"about") == b"shares"
    assert b"shares" not in box
    assert box != p.sealed(bytes(32), b"shares", b"about", p.system_entropy)
    for wrong in [
        (bytes([1] * 32), box, b"about"),
        (key, box, b"other"),
        (key, box[:-1] + bytes([box[-1] ^ 1]), b"about"),
        (key, bytes([box[0] ^ 1]) + box[1:], b"about"),
        (key, b"", b"about"),
    ]:
        with pytest.raises(KnowledgeError, match=r"what was sealed does not open"):
            p.opened(*wrong)


def test_a_signature_is_of_one_content_by_one_owner():
    private = bytes([7] * 32)
    public, signature = p.identity_of(private), p.signed(private, b"keys")
    assert p.is_signed(public, b"keys", signature)
    assert not p.is_signed(public, b"other", signature)
    assert not p.is_signed(p.identity_of(bytes(32)), b"keys", signature)
    assert not p.is_signed(public, b"keys", signature[:-1])
    assert not p.is_signed(b"short", b"keys", signature)


def test_without_the_package_it_is_said_what_to_install(monkeypatch):
    p.need()
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(RunError, match=r"needs the package cryptography; install polyclinic\[dep"):
        p.need()
