"""Signatures under reports: inside a PDF (PAdES), beside a file (CMS), and how they are checked.

Who signs is the server's own authority; so a signature says: this emergency server wrote it, at the
time that its own clock told, and nobody changed it since. pyHanko is loaded where it is needed: the
running server never does, see ``press``.
"""

from __future__ import annotations

import asyncio
import io
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs7

from notfallserver.wire.errors import NotfallError

if TYPE_CHECKING:
    from pyhanko_certvalidator import ValidationContext

FIELD = "Signature"


@dataclass(frozen=True)
class Signer:
    """The files of key and certificate, and the CA's certificate that goes with them."""

    key: Path
    certificate: Path
    ca: Path


@dataclass(frozen=True)
class Checked:
    """What came of a check. ``by``: the name in the certificate; ``why``: what is wrong, empty
    when nothing is."""

    valid: bool
    by: str = ""
    at: datetime | None = None
    why: str = ""


def sign_beside(content: bytes, signer: Signer) -> bytes:
    """A detached CMS signature (DER), as ``openssl cms`` checks it."""
    key = serialization.load_pem_private_key(signer.key.read_bytes(), None)
    certificate = x509.load_pem_x509_certificate(signer.certificate.read_bytes())
    authority = x509.load_pem_x509_certificate(signer.ca.read_bytes())
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise NotfallError("no-authority", f"{signer.key} is no EC key.", status=500)
    builder = pkcs7.PKCS7SignatureBuilder().set_data(content)
    return (
        builder.add_signer(certificate, key, hashes.SHA256())
        .add_certificate(authority)
        .sign(
            serialization.Encoding.DER,
            [pkcs7.PKCS7Options.DetachedSignature, pkcs7.PKCS7Options.Binary],
        )
    )


def sign_pdf(content: bytes, signer: Signer, name: str, reason: str) -> bytes:
    """The PDF with a signature that certifies it: no change is allowed afterwards."""
    from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
    from pyhanko.sign import signers
    from pyhanko.sign.fields import MDPPerm, SigSeedSubFilter

    with_key = signers.SimpleSigner.load(
        str(signer.key), str(signer.certificate), ca_chain_files=(str(signer.ca),)
    )
    if with_key is None:
        raise NotfallError("no-signer", f"{signer.key} can't be used to sign.", status=500)
    wish = signers.PdfSignatureMetadata(
        field_name=FIELD,
        md_algorithm="sha256",
        subfilter=SigSeedSubFilter.PADES,
        certify=True,
        docmdp_permissions=MDPPerm.NO_CHANGES,
        name=name,
        reason=reason,
    )
    signed = signers.sign_pdf(IncrementalPdfFileWriter(io.BytesIO(content)), wish, signer=with_key)
    return bytes(signed.getvalue())


def check_pdf(content: bytes, ca_pem: bytes) -> Checked:
    """Whether the PDF is as this authority's server signed it, to the last byte."""
    from pyhanko.pdf_utils.misc import PdfError
    from pyhanko.pdf_utils.reader import PdfFileReader
    from pyhanko.sign.validation import SignatureCoverageLevel, async_validate_pdf_signature
    from pyhanko.sign.validation.errors import SignatureValidationError

    try:
        found = PdfFileReader(io.BytesIO(content)).embedded_signatures
        if not found:
            return Checked(False, why="It has no signature.")
        status = asyncio.run(async_validate_pdf_signature(found[0], _trust(ca_pem)))
    except (PdfError, SignatureValidationError, ValueError, KeyError, TypeError) as error:
        return Checked(False, why=f"It can't be read as a signed PDF: {error}")
    by = _common_name(status.signing_cert)
    at = status.signer_reported_dt
    if len(found) != 1 or status.coverage is not SignatureCoverageLevel.ENTIRE_FILE:
        return Checked(False, by, at, "Something was added after it was signed.")
    return _judge(status.intact and status.valid, status.trusted, by, at)


def check_beside(content: bytes, signature: bytes, ca_pem: bytes) -> Checked:
    """As :func:`check_pdf`, for a file and the signature beside it."""
    from asn1crypto import cms
    from pyhanko.sign.validation.errors import SignatureValidationError
    from pyhanko.sign.validation.generic_cms import async_validate_detached_cms

    try:
        parsed = cms.ContentInfo.load(signature, strict=True)
        told = async_validate_detached_cms(
            io.BytesIO(content), parsed["content"], signer_validation_context=_trust(ca_pem)
        )
        status = asyncio.run(told)
    except (SignatureValidationError, ValueError, KeyError, TypeError) as error:
        return Checked(False, why=f"The signature can't be read: {error}")
    by = _common_name(status.signing_cert)
    at = status.signer_reported_dt
    return _judge(status.intact and status.valid, status.trusted, by, at)


def _judge(unchanged: bool, trusted: bool, by: str, at: datetime | None) -> Checked:
    if not unchanged:
        return Checked(False, by, at, "It was changed after it was signed.")
    if not trusted:
        return Checked(False, by, at, "Another authority vouches for it, not this one.")
    return Checked(True, by, at)


def _trust(ca_pem: bytes) -> ValidationContext:
    from asn1crypto import pem
    from asn1crypto import x509 as asn1
    from pyhanko_certvalidator import ValidationContext

    _, _, der = pem.unarmor(ca_pem)
    return ValidationContext(trust_roots=[asn1.Certificate.load(der)], allow_fetching=False)


def _common_name(certificate: object) -> str:
    names = getattr(certificate, "subject").native  # noqa: B009
    return str(names.get("common_name", ""))
