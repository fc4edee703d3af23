"""The suite's RoundTripper: one request to a Gateway, and what the echo backend saw of it."""

from __future__ import annotations

import json
import os
import socket
import ssl
import tempfile
import urllib.parse
from typing import Any, Optional

from ..golang import types as go
from ..golang.scope import Package
from ..golib.errors import Error
from ..golib.net import Header, told
from ..golib.objects import decode
from ..golib.verify import trusting, wrapped
from ..network import Network, split_host_port
from .http_client import Http2, Response, http1

SCHEMES = {"https": 443, "http": 80}
_CERTIFICATE_REQUEST = 13
REDIRECTS = (300, 301, 302, 303, 304, 305, 307, 308)


class RoundTripper:
    def __init__(self, network: Network, package: Package, timeout: float) -> None:
        self.network = network
        self.package = package
        self.timeout = timeout

    def CaptureRoundTrip(self, request: go.Value) -> tuple[Any, Any, Optional[Error]]:
        try:
            response = self.send(request.fields)
            return self.captured(request.fields, response)
        except OSError as error:
            return None, None, told(error)

    def send(self, request: dict[str, Any]) -> Response:
        url = request["URL"]
        protocol = request["Protocol"]
        host, port = split_host_port(url.Host, SCHEMES[url.Scheme])
        target = urllib.parse.quote(url.Path, safe="/:@!$&'()*+,;=~-._") or "/"
        target += f"?{url.RawQuery}" if url.RawQuery else ""
        method = request["Method"] or "GET"
        authority = request["Host"] or url.Host
        headers = [(name, values[0]) for name, values in (request["Headers"] or {}).items()]
        body = request["Body"].encode()
        connection = self.network.connect(host, port, self.timeout)
        with connection:
            if url.Scheme == "https":
                connection = secured(connection, request, ["h2"] if protocol == "H2" else [])
            agent = [("User-Agent", "Go-http-client/1.1"), ("Accept-Encoding", "gzip")]
            if protocol in ("H2", "H2C_PRIOR_KNOWLEDGE"):
                fields = [(":method", method), (":scheme", url.Scheme), (":authority", authority), (":path", target)]
                fields += [(name.lower(), value) for name, value in headers + agent]
                return Http2(connection, self.timeout).request(fields, body or None)
            return http1(connection, method, target, authority, headers + agent, body, self.timeout)

    def captured(self, request: dict[str, Any], response: Response) -> tuple[Any, Any, Optional[Error]]:
        headers = Header()
        for name, value in response.headers:
            headers.Add(name, value)
        kind = self.package.member("CapturedRequest")
        if headers.Get("Content-Type") == "application/json":
            seen = decode(json.loads(response.body), kind)
        else:
            seen = kind.zero()
            seen.fields["Method"] = request["Method"] or "GET"
        fields: dict[str, Any] = {
            "StatusCode": response.status, "ContentLength": len(response.body), "Protocol": response.proto,
            "Headers": headers,
        }
        if response.status in REDIRECTS:
            location = headers.Get("Location")
            if not location:
                return None, None, Error("http: no Location header in response")
            fields["RedirectRequest"] = self.redirect(location, request["URL"].String())
        made = self.package.member("CapturedResponse").zero()
        made.fields.update(fields)
        return go.Ref(seen), go.Ref(made), None

    def redirect(self, location: str, base: str) -> go.Ref:
        url = urllib.parse.urlsplit(urllib.parse.urljoin(base, location))
        made = self.package.member("RedirectRequest").zero()
        made.fields.update(
            Scheme=url.scheme, Host=url.hostname or "", Port=str(url.port or ""), Path=urllib.parse.unquote(url.path)
        )
        return go.Ref(made)


def secured(connection: socket.socket, request: dict[str, Any], protocols: list[str]) -> ssl.SSLSocket:
    if not request["ServerName"] or not request["ServerCertificate"]:
        raise OSError("https request has no server name or no trusted certificates configured")
    context = trusting(request["ServerCertificate"].decode())
    if protocols:
        context.set_alpn_protocols(protocols)
    hook = request.get("GetClientCertificateHook")
    if hook is None:
        return wrapped(context, connection, request["ServerName"])
    pair, _ = hook(None)
    load_identity(context, pair.certificate, pair.key)
    asked: list[int] = []
    # Go calls the hook when the server asks; here it was called before, so whether it asked is seen on the wire.
    context._msg_callback = lambda _c, _d, _v, _t, kind, _m: asked.append(int(kind))  # type: ignore[attr-defined]
    secured_connection = wrapped(context, connection, request["ServerName"])
    if _CERTIFICATE_REQUEST not in asked:
        raise OSError("the server did not ask for a client certificate")
    return secured_connection


def load_identity(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    descriptor, path = tempfile.mkstemp()
    try:
        os.write(descriptor, certificate + b"\n" + key)
        os.close(descriptor)
        context.load_cert_chain(path)
    finally:
        os.unlink(path)
