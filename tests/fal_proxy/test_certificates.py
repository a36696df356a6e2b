"""Certificates that programs have to accept, of an authority that can vouch for nothing else."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tintype.fal_proxy.certificates import CertificateAuthority


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority.open(tmp_path)


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> bytes:
    """A whole TLS handshake in memory; the certificate that was shown. Raises what the client raises."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname=name)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    done: set[ssl.SSLObject] = set()
    while len(done) < 2:
        for end in (ours, theirs):
            try:
                end.do_handshake()
                done.add(end)
            except ssl.SSLWantReadError:
                continue
    shown = ours.getpeercert(binary_form=True)
    assert shown is not None
    return shown


@pytest.mark.parametrize(
    "name",
    ["fal.run", "queue.fal.run", "rest.fal.ai", "rest.alpha.fal.ai", "v3.fal.media", "v3b.fal.media", "fal.media",
     "ws.fal.run", "falrun.com", "queue.falrun.com", "localhost"],
)  # fmt: skip
def test_every_name_of_fals_is_vouched_for_also_to_strict_clients(authority: CertificateAuthority, name: str) -> None:
    client = ssl.create_default_context(cafile=str(authority.certificate))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    shake_hands(client, authority.server_context(), name)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
def test_this_server_is_vouched_for_under_its_own_addresses(authority: CertificateAuthority, name: str) -> None:
    client = ssl.create_default_context(cafile=str(authority.certificate))
    shake_hands(client, authority.server_context(), name)


def test_no_address_is_in_the_certificate_of_fals_names(authority: CertificateAuthority) -> None:
    """BoringSSL refuses addresses from an authority that may vouch for certain ones only."""
    client = ssl.create_default_context(cafile=str(authority.certificate))
    shown = x509.load_der_x509_certificate(shake_hands(client, authority.server_context(), "queue.fal.run"))
    names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.IPAddress) == []


def test_a_stolen_key_can_vouch_for_no_other_name(authority: CertificateAuthority, tmp_path: Path) -> None:
    stolen = serialization.load_pem_private_key(authority.key.read_bytes(), password=None)
    assert isinstance(stolen, ec.EllipticCurvePrivateKey)
    issuer = x509.load_pem_x509_certificate(authority.certificate.read_bytes())
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    forged = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bank")]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("bank.example")]), critical=False)
        .sign(stolen, hashes.SHA256())
    )
    plain = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "forged.pem").write_bytes(forged.public_bytes(serialization.Encoding.PEM) + plain)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "forged.pem")
    client = ssl.create_default_context(cafile=str(authority.certificate))
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
        shake_hands(client, server, "bank.example")


def test_it_is_made_once_and_its_keys_are_for_their_owner_alone(
    authority: CertificateAuthority, tmp_path: Path
) -> None:
    made = (authority.certificate, authority.key, authority.host, authority.fal)
    before = {path: path.read_bytes() for path in made}
    CertificateAuthority.open(tmp_path)
    assert {path: path.read_bytes() for path in made} == before
    assert [path.stat().st_mode & 0o777 for path in made[1:]] == [0o600] * 3
    assert authority.folder.stat().st_mode & 0o777 == 0o700


def test_an_authority_of_the_version_before_goes_on_under_its_old_path_too(
    authority: CertificateAuthority, tmp_path: Path
) -> None:
    made = authority.certificate.read_bytes()
    bundle = authority.bundle({})
    authority.folder.rename(tmp_path / "detour")
    again = CertificateAuthority.open(tmp_path)
    assert again.certificate.read_bytes() == made
    assert again.folder == authority.folder
    assert (tmp_path / "detour" / bundle.name).read_bytes() == bundle.read_bytes(), "what a person's variables may name"


def test_a_removed_authority_is_replaced_by_another_one(authority: CertificateAuthority, tmp_path: Path) -> None:
    before = authority.certificate.read_bytes()
    authority.certificate.unlink()
    again = CertificateAuthority.open(tmp_path)
    assert again.certificate.read_bytes() != before
    shake_hands(ssl.create_default_context(cafile=str(again.certificate)), again.server_context(), "fal.run")


def test_a_bundle_holds_the_public_roots_the_persons_own_and_ours(
    authority: CertificateAuthority, tmp_path: Path
) -> None:
    own = CertificateAuthority.open(tmp_path / "a company's").certificate
    bundle = authority.bundle({"SSL_CERT_FILE": str(own), "REQUESTS_CA_BUNDLE": "/no/such/file"}).read_text()
    assert own.read_text().strip() in bundle
    assert authority.certificate.read_text().strip() in bundle
    assert bundle.count("BEGIN CERTIFICATE") > 100
    assert own.read_text().strip() not in authority.bundle({}).read_text()
    added = authority.addition({"NODE_EXTRA_CA_CERTS": str(own)}).read_text()
    assert added.split("-----") == (own.read_text() + authority.certificate.read_text()).split("-----")
