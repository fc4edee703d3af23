"""Checks a server's name as Go does. OpenSSL refuses a wildcard right below a top-level domain; the suite uses one."""

from __future__ import annotations

import socket
import ssl
from typing import Optional

from cryptography import x509


def trusting(pem: Optional[str]) -> ssl.SSLContext:
    """A client's context that trusts `pem`, or what the machine trusts; names are checked by `wrapped`."""
    context = ssl.create_default_context()
    context.check_hostname = False
    if pem is not None:
        context.load_verify_locations(cadata=pem)
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        # Go trusts a server's own certificate as it does an authority's.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def wrapped(context: ssl.SSLContext, raw: socket.socket, name: str) -> ssl.SSLSocket:
    connection = context.wrap_socket(raw, server_hostname=name)
    der = connection.getpeercert(binary_form=True)
    names = dns_names(der) if der else []
    if not any(matches(pattern, name) for pattern in names):
        raise OSError(f"x509: certificate is valid for {', '.join(names)}, not {name}")
    return connection


def dns_names(der: bytes) -> list[str]:
    certificate = x509.load_der_x509_certificate(der)
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return alternatives.value.get_values_for_type(x509.DNSName)


def matches(pattern: str, name: str) -> bool:
    """A leading `*` stands for exactly one label."""
    wanted, found = pattern.lower().split("."), name.lower().rstrip(".").split(".")
    if len(wanted) != len(found):
        return False
    return all(left == right or (at == 0 and left == "*") for at, (left, right) in enumerate(zip(wanted, found)))
