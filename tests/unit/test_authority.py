"""Certificates: made once, renewed when names change, good for what they are for only."""

import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from notfallserver.server.agent_package import pack_agent
from notfallserver.server.authority import Authority, create_authority
from notfallserver.server.web.peer import read_peer
from notfallserver.wire.errors import NotfallError


def der(pem: str) -> bytes:
    return x509.load_pem_x509_certificate(pem.encode()).public_bytes(serialization.Encoding.DER)


def test_the_authority_is_made_once_and_kept_private(tmp_path: Path) -> None:
    first = create_authority(tmp_path / "ca")
    assert create_authority(tmp_path / "ca").fingerprint == first.fingerprint
    assert stat.S_IMODE((tmp_path / "ca").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "ca" / "ca.key").stat().st_mode) == 0o600


def test_the_servers_certificate_follows_the_hosts_names(tmp_path: Path) -> None:
    authority = create_authority(tmp_path / "ca")
    assert authority.ensure_server_certificate(["localhost", "10.0.0.1", "fd00::1"])
    assert not authority.ensure_server_certificate(["fd00::1", "10.0.0.1", "localhost"])
    assert authority.ensure_server_certificate(["localhost", "10.0.0.2"])
    authority.server_key.write_text("broken")
    assert authority.ensure_server_certificate(["localhost", "10.0.0.2"])


def test_a_client_certificate_names_its_primary_and_a_servers_is_none(tmp_path: Path) -> None:
    authority = create_authority(tmp_path / "ca")
    made = authority.issue_client("6f1f0f7e-0000-4000-8000-000000000000")
    peer = read_peer(der(made.certificate))
    assert peer and (peer.primary, peer.serial) == (
        "6f1f0f7e-0000-4000-8000-000000000000",
        made.serial,
    )
    authority.ensure_server_certificate(["localhost"])
    assert read_peer(der(authority.server_certificate.read_text())) is None
    assert read_peer(b"no certificate") is None


def test_a_missing_authority_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotfallError) as refused:
        Authority(tmp_path / "ca")
    assert "notfall server init" in refused.value.remedy


def test_the_agents_package_is_the_same_bytes_each_time() -> None:
    assert pack_agent() == pack_agent()
