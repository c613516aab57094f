"""Keys and certificates: the server's own authority, and the key that a site makes for itself.

Elliptic curves throughout: P-256 for TLS, P-384 for the signature with which a site's requests are
authenticated. Private keys are files that only their owner may read, and none of them is sent.
"""

import contextlib
import datetime
import ipaddress
from pathlib import Path

from polyclinic.deploy.folders import write_private
from polyclinic.errors import RunError

YEARS = 5
"""How long certificates hold."""


def ensure_certificates(folder: Path, address: str) -> None:
    """Make an authority, and with it the server's certificate for `address` and this machine.

    Files: `ca.crt`, `ca.key`, `server.crt`, `server.key`. An authority that is there is kept, so
    that invitations stay good; the server's certificate is made again for another address, and
    where it is broken. `RunError` where the authority is.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def begun(subject: str, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name("Polyclinic federation"))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))  # clocks differ a little
            .not_valid_after(now + datetime.timedelta(days=365 * YEARS))
        )

    authority, certificate = folder / "ca.key", folder / "server.crt"
    if authority.exists() and (folder / "ca.crt").exists():
        ca_key = _pair(authority, folder / "ca.crt")[0]
    else:
        ca_key = ec.generate_private_key(ec.SECP256R1())
        root = (
            begun("Polyclinic federation", ca_key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False
            )
            .sign(ca_key, hashes.SHA256())
        )
        write_private(authority, _pem(ca_key), lasting=True)
        pem = root.public_bytes(serialization.Encoding.PEM)
        write_private(folder / "ca.crt", pem, lasting=True)
        certificate.unlink(missing_ok=True)
    names = _alternatives(address)
    if certificate.exists() and (folder / "server.key").exists():
        # a broken one is no loss: sites trust the authority, which signs another
        with contextlib.suppress(RunError, ValueError, x509.ExtensionNotFound):
            _, have = _pair(folder / "server.key", certificate)
            found = have.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            if found == names:
                return
    key = ec.generate_private_key(ec.SECP256R1())
    signed = (
        begun("Polyclinic server", key.public_key())
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    write_private(folder / "server.key", _pem(key))
    write_private(certificate, signed.public_bytes(serialization.Encoding.PEM))


def ensure_site_key(path: Path) -> str:
    """The site's private key at `path`, made where there is none; returns the public half.

    Both in OpenSSH's format, as Flower reads them.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    if not path.exists():  # lasting: once it has joined, the server knows this key alone
        made = ec.generate_private_key(ec.SECP384R1())
        write_private(
            path,
            made.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.OpenSSH,
                serialization.NoEncryption(),
            ),
            lasting=True,
        )
    try:
        key = serialization.load_ssh_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise RunError(f"{path}: not a readable key ({error}); restore it") from None
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return public.decode("ascii")


def is_public_key(text: str) -> bool:
    """Whether `text` is the public half of a key such as `ensure_site_key` makes."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key = serialization.load_ssh_public_key(text.encode("ascii"))
    except (ValueError, UnsupportedAlgorithm):
        return False
    return isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp384r1"


def _pair(key: Path, certificate: Path):  # type: ignore[no-untyped-def]
    """A private key and its certificate; `RunError` where one is broken, or of another pair."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    path = key
    try:
        private = serialization.load_pem_private_key(key.read_bytes(), None)
        path = certificate
        public = x509.load_pem_x509_certificate(certificate.read_bytes())
        theirs = public.public_key()
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise RunError(
            f"{path}: cannot be read ({error}); restore it from a backup, the sites trust no other"
        ) from None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or private.public_key() != theirs:
        raise RunError(f"{key}: not the key of {certificate.name}; restore both from one backup")
    return private, public


def _alternatives(address: str):  # type: ignore[no-untyped-def]  # of a package loaded above
    from cryptography import x509

    names: list[x509.GeneralName] = []
    for text in dict.fromkeys((address, "localhost", "127.0.0.1")):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(text)))
        except ValueError:
            names.append(x509.DNSName(text))
    return x509.SubjectAlternativeName(names)


def _usage(*, signs_certificates: bool):  # type: ignore[no-untyped-def]
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key) -> bytes:  # type: ignore[no-untyped-def]
    from cryptography.hazmat.primitives import serialization

    pem: bytes = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return pem
