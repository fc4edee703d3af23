"""The certificates that the suite wants made, as Secrets and ConfigMaps."""

from __future__ import annotations

import base64
import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Optional

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Manifest = dict[str, Any]


@dataclass
class Issuer:
    certificate: x509.Certificate
    key: rsa.RSAPrivateKey


def authority() -> Issuer:
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gatewayapi")])
    builder = base(name, name, key).add_extension(x509.BasicConstraints(True, None), True)
    usage = x509.KeyUsage(True, False, False, False, False, True, False, False, False)
    return Issuer(builder.add_extension(usage, True).sign(key, hashes.SHA256()), key)


def base(subject: x509.Name, issuer: x509.Name, key: rsa.RSAPrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(days=365))
    )


def issued(hosts: list[str], issuer: Optional[Issuer], client: bool = False) -> tuple[bytes, bytes]:
    """PEM of certificate and key; signed by itself without an issuer."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "default")])
    builder = base(name, issuer.certificate.subject if issuer else name, key)
    purpose = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
    builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), False)
    builder = builder.add_extension(x509.BasicConstraints(False, None), True)
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([alternative(host) for host in hosts]), False)
    certificate = builder.sign(issuer.key if issuer else key, hashes.SHA256())
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), secret


def alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.UniformResourceIdentifier(host) if "://" in host else x509.DNSName(host)


def tls_secret(namespace: str, name: str, pair: tuple[bytes, bytes]) -> Manifest:
    certificate, key = (base64.b64encode(each).decode() for each in pair)
    return {
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": name, "namespace": namespace}, "data": {"tls.crt": certificate, "tls.key": key},
    }


def ca_config_map(namespace: str, name: str, issuer: Issuer) -> Manifest:
    pem = issuer.certificate.public_bytes(serialization.Encoding.PEM).decode()
    return {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace},
        "data": {"ca.crt": pem},
    }


def suite_objects() -> list[Manifest]:
    """What the suite's Setup creates beside its base manifests."""
    infra, web, app = "gateway-conformance-infra", "gateway-conformance-web-backend", "gateway-conformance-app-backend"
    clients, per_port, checks = authority(), authority(), authority()
    names = ["abc.example.com", "spiffe://abc.example.com/test-identity", "other.example.com"]
    passthrough = issued(["abc.example.com"], checks)
    return [
        tls_secret(web, "certificate", issued(["*"], None)),
        tls_secret(infra, "tls-validity-checks-certificate", issued(["*", "*.org", "*.wildcard.org"], None)),
        ca_config_map(web, "web-backend-cm", authority()),
        ca_config_map(infra, "tls-validity-checks-ca-certificate", clients),
        tls_secret(infra, "tls-validity-checks-client-certificate", issued([], clients, client=True)),
        ca_config_map(infra, "tls-validity-checks-per-port-ca-certificate", per_port),
        tls_secret(infra, "tls-validity-checks-per-port-client-certificate", issued([], per_port, client=True)),
        ca_config_map(infra, "tls-checks-ca-certificate", checks),
        tls_secret(infra, "tls-checks-certificate", issued(names, checks)),
        tls_secret(infra, "tls-checks-client-certificate", issued([], checks, client=True)),
        tls_secret(infra, "tls-passthrough-checks-certificate", passthrough),
        tls_secret(app, "tls-passthrough-checks-certificate", issued(["abc.example.com"], checks)),
        tls_secret(infra, "tls-terminate-checks-certificate", issued(["tls.example.com"], checks)),
        ca_config_map(infra, "mismatch-ca-certificate", authority()),
    ]
