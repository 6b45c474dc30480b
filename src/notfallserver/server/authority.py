"""The server's own certificate authority: who the server is, and which primary an agent is.

All in ``data_dir/ca`` (0700, keys 0600): the CA (EC P-256), the server's certificate with all names
and addresses of this host. A client certificate has a primary's UUID as CN and is good for client
authentication only; whether it still stands is noted in the catalogue by serial number. Reports are
signed with a key of their own, whose certificate is good for that only.

Certificates are valid from the year 2000 on: a target whose clock battery is dead must get its
data back all the same.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from notfallserver.server.host.files import replace_file
from notfallserver.wire.errors import NotfallError

_FROM = datetime(2000, 1, 1, tzinfo=UTC)
_CA_YEARS, _CLIENT_YEARS, _SERVER_YEARS = 40, 20, 10
_SIGNER_YEARS = 20
"""Reports are kept for ten years and more; a signature is checked by its certificate."""
_RENEW_BEFORE = timedelta(days=1000)
_SIGNER_KEEPS = timedelta(days=365 * 12)
_DOCUMENT_SIGNING = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36")  # RFC 9336


@dataclass(frozen=True)
class ClientCertificate:
    """A new client certificate; the key is kept nowhere here. ``serial`` in hex."""

    certificate: str
    key: str
    serial: str


class Authority:
    """The CA in one directory; made by :func:`create_authority`."""

    def __init__(self, directory: Path) -> None:
        self.ca_file = directory / "ca.pem"
        self.server_certificate = directory / "server.pem"
        self.server_key = directory / "server.key"
        self.signer_certificate = directory / "reports.pem"
        self.signer_key = directory / "reports.key"
        try:
            self.ca_pem = self.ca_file.read_text("ascii")
            self._ca = x509.load_pem_x509_certificate(self.ca_pem.encode())
            key = serialization.load_pem_private_key((directory / "ca.key").read_bytes(), None)
        except (OSError, ValueError) as error:
            raise NotfallError(
                "no-authority",
                f"The certificate authority in {directory} cannot be read: {error}.",
                "Run 'notfall server init'; if it was made before, bring the directory back.",
                status=500,
            ) from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise NotfallError("no-authority", f"{directory}/ca.key is no EC key.", status=500)
        self._key = key

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the CA's certificate (DER), in hex: what an invitation pins."""
        der = self._ca.public_bytes(serialization.Encoding.DER)
        return hashlib.sha256(der).hexdigest()

    def expiry(self) -> tuple[datetime, datetime]:
        """Until when the server's certificate and the CA's are valid."""
        found = x509.load_pem_x509_certificate(self.server_certificate.read_bytes())
        return found.not_valid_after_utc, self._ca.not_valid_after_utc

    def ensure_server_certificate(self, names: Sequence[str]) -> bool:
        """Make the server's certificate anew if it is missing, for other names, or ends soon."""
        wanted = {_general_name(name) for name in names}
        if self._server_certificate_serves(wanted):
            return False
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder("Notfallserver", key, _SERVER_YEARS)
            .issuer_name(self._ca.subject)
            .add_extension(x509.SubjectAlternativeName(sorted(wanted, key=str)), False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
            .add_extension(self._issuer_key(), False)
            .sign(self._key, hashes.SHA256())
        )
        replace_file(self.server_key, _key_pem(key))
        replace_file(self.server_certificate, certificate.public_bytes(serialization.Encoding.PEM))
        return True

    def issue_client(self, primary: str) -> ClientCertificate:
        """A certificate with which an agent speaks for ``primary``."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(primary, key, _CLIENT_YEARS)
            .issuer_name(self._ca.subject)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
            .add_extension(self._issuer_key(), False)
            .sign(self._key, hashes.SHA256())
        )
        return ClientCertificate(
            certificate.public_bytes(serialization.Encoding.PEM).decode(),
            _key_pem(key).decode(),
            f"{certificate.serial_number:x}",
        )

    def ensure_signer(self, name: str) -> None:
        """Make key and certificate for signing reports, unless they last for years to come.

        Readers of mail and PDF want to be told that the certificate is for e-mail.
        """
        if _lasts(self.signer_certificate, self.signer_key, self._ca, _SIGNER_KEEPS):
            return
        key = ec.generate_private_key(ec.SECP256R1())
        uses = [ExtendedKeyUsageOID.EMAIL_PROTECTION, _DOCUMENT_SIGNING]
        certificate = (
            _builder(f"Notfallserver {name}"[:64], key, _SIGNER_YEARS)
            .issuer_name(self._ca.subject)
            .add_extension(_usage(digital_signature=True, content_commitment=True), True)
            .add_extension(x509.ExtendedKeyUsage(uses), False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
            .add_extension(self._issuer_key(), False)
            .sign(self._key, hashes.SHA256())
        )
        replace_file(self.signer_key, _key_pem(key))
        replace_file(self.signer_certificate, certificate.public_bytes(serialization.Encoding.PEM))

    def _issuer_key(self) -> x509.AuthorityKeyIdentifier:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())

    def _server_certificate_serves(self, wanted: set[x509.GeneralName]) -> bool:
        try:
            found = x509.load_pem_x509_certificate(self.server_certificate.read_bytes())
            key = serialization.load_pem_private_key(self.server_key.read_bytes(), None)
            names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            found.verify_directly_issued_by(self._ca)
        except (OSError, ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
            return False
        lasts = found.not_valid_after_utc - datetime.now(UTC) > _RENEW_BEFORE
        return lasts and set(names) == wanted and key.public_key() == found.public_key()


def create_authority(directory: Path) -> Authority:
    """The CA in ``directory``, made if there is none; the certificate is written last."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    if not (directory / "ca.pem").exists():
        key = ec.generate_private_key(ec.SECP256R1())
        name = f"Notfallserver CA {x509.random_serial_number():x}"[:40]
        certificate = (
            _builder(name, key, _CA_YEARS)
            .issuer_name(_name(name))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
            .add_extension(_usage(key_cert_sign=True, crl_sign=True), True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .sign(key, hashes.SHA256())
        )
        replace_file(directory / "ca.key", _key_pem(key))
        replace_file(directory / "ca.pem", certificate.public_bytes(serialization.Encoding.PEM))
    return Authority(directory)


def _builder(
    common_name: str, key: ec.EllipticCurvePrivateKey, years: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_FROM)
        .not_valid_after(datetime.now(UTC) + timedelta(days=365 * years))
    )


def _usage(**allowed: bool) -> x509.KeyUsage:
    """What a key may do; nothing else."""
    names = (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
        *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(**{name: allowed.get(name, False) for name in names})


def _lasts(certificate: Path, key: Path, ca: x509.Certificate, least: timedelta) -> bool:
    """Whether both are there, fit, are of this CA, and last for ``least``."""
    try:
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
        private = serialization.load_pem_private_key(key.read_bytes(), None)
        found.verify_directly_issued_by(ca)
    except (OSError, ValueError, TypeError, InvalidSignature):
        return False
    return (
        found.not_valid_after_utc - datetime.now(UTC) > least
        and private.public_key() == found.public_key()
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name.encode("idna").decode("ascii"))


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
