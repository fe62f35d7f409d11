"""A certificate authority of a test's own, and the certificates that it signs for servers.

No program of the system is needed, and nothing is kept: keys live as long as the test's folder.
"""

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha1
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

VALIDITY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """What a server shows to its clients, and the key that proves it; both as PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Authority:
    """An authority that nobody trusts who was not given `file`."""

    file: Path
    """Its own certificate, for `sslrootcert`."""
    _certificate: x509.Certificate
    _key: EllipticCurvePrivateKey

    @classmethod
    def make(cls, file: Path) -> Self:
        """Make an authority and write its certificate to a file, whose name is its own."""
        key = generate_private_key(SECP256R1())
        name = _name(file.stem)
        certificate = (
            _begin(name, key, issuer=name)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, SHA256())
        )
        file.write_bytes(certificate.public_bytes(Encoding.PEM))
        return cls(file, certificate, key)

    def sign(self, host: str) -> ServerCertificate:
        """Sign a certificate for a server of this host name."""
        key = generate_private_key(SECP256R1())
        certificate = (
            _begin(_name(host), key, issuer=self._certificate.subject)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
            .sign(self._key, SHA256())
        )
        return ServerCertificate(
            certificate.public_bytes(Encoding.PEM),
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        )

    def trust_in(self, folder: Path) -> None:
        """Put its certificate where OpenSSL looks for those of a machine: by a hash of its name."""
        # Of the parts of the name alone, without the length that stands before them.
        digest = sha1(self._certificate.subject.public_bytes()[2:], usedforsecurity=False).digest()
        shutil.copy(self.file, folder / f"{int.from_bytes(digest[:4], 'little'):08x}.0")


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _begin(
    subject: x509.Name, key: EllipticCurvePrivateKey, *, issuer: x509.Name
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - VALIDITY)
        .not_valid_after(now + VALIDITY)
    )
