"""The certificates for fal's names: an authority of this installation alone, and the bundles that trust it.

Nothing is installed in the system or a browser: only programs that are pointed at a bundle, by their environment,
trust the authority. Should its key be stolen even so, it can vouch for nothing but fal's names and loopback: that is
written into its certificate. Removing it is removing the folder.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import ssl
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import certifi
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from filelock import FileLock

from tintype.fal import DOMAINS, is_fal_host
from tintype.installation import write_secret

AUTHORITY_DAYS = 3650
HOST_DAYS = 397  # the most that strict verifiers accept
RENEW_DAYS = 30
_LOOPBACK = ("127.0.0.1", "::1")
# Where systems keep the public roots that Python's own ssl module may not know of.
_SYSTEM_ROOTS = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
_REPLACING = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
ADDING = "NODE_EXTRA_CA_CERTS"
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True)
class CertificateAuthority:
    """Holds what lies in DATA/certificates."""

    folder: Path

    @property
    def certificate(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def key(self) -> Path:
        return self.folder / "ca-key.pem"

    @property
    def fal(self) -> Path:
        """Names the file with key and certificate of fal's names, and of no addresses.

        Addresses, where an authority vouches for certain ones only, are too much for BoringSSL (Bun, Electron).
        """
        return self.folder / "fal.pem"

    @property
    def host(self) -> Path:
        """Names the key and certificate of loopback, for whoever speaks TLS with this server by its own address."""
        return self.folder / "host.pem"

    @classmethod
    def open(cls, data_dir: Path) -> CertificateAuthority:
        """Returns the installation's authority, made by whoever comes first; renews the hosts' certificates in time."""
        authority = cls(_folder(data_dir.resolve()))
        authority.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(authority.folder / "lock"):
            if not (authority.certificate.exists() and authority.key.exists()):
                _make_authority(authority)
                for path in (authority.fal, authority.host):
                    path.unlink(missing_ok=True)
            for path, names in ((authority.fal, _fals_names()), (authority.host, _own_names())):
                if not path.exists() or _ends(path) < datetime.now(UTC) + timedelta(days=RENEW_DAYS):
                    _make_host(authority, path, names)
        return authority

    def server_context(self) -> ssl.SSLContext:
        """Makes the TLS context of whoever answers in fal's place, or as this server."""
        own, fal = _context(self.host), _context(self.fal)

        def choose(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
            if name and is_fal_host(name):
                connection.context = fal

        own.sni_callback = choose
        return own

    def bundle(self, environment: Mapping[str, str]) -> Path:
        """Writes a file of every root that a program of this environment trusts now, and the authority.

        The variables that name it replace a program's roots rather than adding to them.
        """
        named = (environment.get(name, "") for name in _REPLACING)
        own = ssl.get_default_verify_paths().openssl_cafile
        return self._bundled(*named, own, *_SYSTEM_ROOTS, certifi.where())

    def addition(self, environment: Mapping[str, str]) -> Path:
        """Writes one for the variable that adds to a program's roots: the person's own additions, and the authority."""
        return self._bundled(environment.get(ADDING, ""))

    def _bundled(self, *paths: str) -> Path:
        text = "\n".join(_roots((*filter(None, paths), str(self.certificate)))) + "\n"
        path = self.folder / f"roots-{hashlib.sha256(text.encode()).hexdigest()[:12]}.pem"
        if not path.exists():
            write_secret(path, text.encode())
        return path


def _folder(data_dir: Path) -> Path:
    """Returns where they lie; versions before named it otherwise, and a person's variables may still do."""
    folder, before = data_dir / "certificates", data_dir / "detour"
    if before.is_dir() and not folder.exists():
        with suppress(OSError):  # another process was quicker
            before.rename(folder)
            before.symlink_to(folder.name)
    return folder


def _context(path: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _fals_names() -> list[x509.GeneralName]:
    hosts = [name for domain in DOMAINS for name in (domain, f"*.{domain}")]
    return [x509.DNSName(name) for name in (*hosts, "*.alpha.fal.ai")]


def _own_names() -> list[x509.GeneralName]:
    return [x509.DNSName("localhost"), *(x509.IPAddress(ipaddress.ip_address(address)) for address in _LOOPBACK)]


def _roots(paths: Iterable[str]) -> list[str]:
    found: dict[str, None] = {}
    for path in dict.fromkeys(paths):
        try:
            found.update(dict.fromkeys(_PEM.findall(Path(path).read_text(errors="replace"))))
        except OSError:
            continue  # a variable that names no file is the program's affair
    return list(found)


def _ends(path: Path) -> datetime:
    return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc


def _make_authority(authority: CertificateAuthority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("tintype: fal's names on this machine")
    permitted: list[x509.GeneralName] = [x509.DNSName(name) for name in (*DOMAINS, "localhost")]
    permitted += [x509.IPAddress(ipaddress.ip_network(address)) for address in _LOOPBACK]
    builder = _builder(AUTHORITY_DAYS, name, name, key.public_key(), signs=True)
    certificate = builder.add_extension(x509.NameConstraints(permitted, None), critical=True).sign(key, hashes.SHA256())
    write_secret(authority.key, _pem(key))
    write_secret(authority.certificate, certificate.public_bytes(serialization.Encoding.PEM))


def _make_host(authority: CertificateAuthority, path: Path, names: Sequence[x509.GeneralName]) -> None:
    issuer_key = serialization.load_pem_private_key(authority.key.read_bytes(), password=None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    issuer = x509.load_pem_x509_certificate(authority.certificate.read_bytes())
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        _builder(HOST_DAYS, _name("tintype"), issuer.subject, key.public_key(), signs=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    certificate = builder.sign(issuer_key, hashes.SHA256())
    write_secret(path, certificate.public_bytes(serialization.Encoding.PEM) + _pem(key))


def _builder(
    days: int, subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, *, signs: bool
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=days))
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .add_extension(x509.BasicConstraints(ca=signs, path_length=0 if signs else None), critical=True)
        .add_extension(_usage(sign=signs), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _usage(*, sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign, key_cert_sign=sign, crl_sign=sign, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
