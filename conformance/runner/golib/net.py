"""Packages net, net/url, net/netip, net/http, encoding/json, bufio and syscall: addresses, and plain connections."""

from __future__ import annotations

import ipaddress
import json
import socket
import ssl
import time
import urllib.parse
from typing import Any, Optional

from ..golang import types as go
from ..network import Network, split_host_port
from .clock import Context, Time
from .errors import EOF, Error
from .objects import decode
from .verify import trusting, wrapped


class Url:
    def __init__(self, Scheme: str = "", Host: str = "", Path: str = "", RawQuery: str = "") -> None:
        self.Scheme, self.Host, self.Path, self.RawQuery = Scheme, Host, Path, RawQuery

    def String(self) -> str:
        query = f"?{self.RawQuery}" if self.RawQuery else ""
        prefix = f"{self.Scheme}://{self.Host}" if self.Scheme or self.Host else ""
        return f"{prefix}{urllib.parse.quote(self.Path, safe='/:@!$&()*+,;=~-._')}{query}"

    def Query(self) -> "Values":
        return parse_query(self.RawQuery)[0]


class Values(go.GoMap):
    """url.Values and http.Header's lists of values."""

    def Set(self, key: str, value: str) -> None:
        self[key] = [value]

    def Get(self, key: str) -> str:
        return (self.get(key) or [""])[0]

    def Encode(self) -> str:
        return "&".join(
            f"{urllib.parse.quote_plus(key)}={urllib.parse.quote_plus(value)}"
            for key in sorted(self)
            for value in self[key]
        )

    def missing(self) -> None:
        return None


class Header(Values):
    """http.Header: names in canonical form."""

    def Set(self, key: str, value: str) -> None:
        self[canonical(key)] = [value]

    def Add(self, key: str, value: str) -> None:
        self.setdefault(canonical(key), []).append(value)

    def Get(self, key: str) -> str:
        return (self.get(canonical(key)) or [""])[0]

    def Values(self, key: str) -> Optional[list[str]]:
        return self.get(canonical(key))


def canonical(name: str) -> str:
    return "-".join(part[:1].upper() + part[1:].lower() for part in name.split("-"))


def parse_url(text: str) -> tuple[Optional[Url], Optional[Error]]:
    parts = urllib.parse.urlsplit(text)
    return Url(parts.scheme, parts.netloc, urllib.parse.unquote(parts.path), parts.query), None


def parse_query(text: str) -> tuple[Values, Optional[Error]]:
    values = Values()
    for key, value in urllib.parse.parse_qsl(text, keep_blank_values=True):
        values.setdefault(key, []).append(value)
    return values, None


def split(address: str) -> tuple[str, str, Optional[Error]]:
    if address.startswith("["):
        host, _, port = address[1:].partition("]:")
        return host, port, None if port else Error(f"address {address}: missing port in address")
    if address.count(":") > 1:
        return "", "", Error(f"address {address}: too many colons in address")
    host, colon, port = address.partition(":")
    return (host, port, None) if colon else ("", "", Error(f"address {address}: missing port in address"))


def join(host: str, port: str) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Addr:
    def __init__(self, text: str) -> None:
        self.address = ipaddress.ip_address(text)

    def Is4(self) -> bool:
        return self.address.version == 4

    def Is6(self) -> bool:
        return self.address.version == 6

    def String(self) -> str:
        return str(self.address)


def parse_addr(text: str) -> tuple[Optional[Addr], Optional[Error]]:
    try:
        return Addr(text), None
    except ValueError as error:
        return None, Error(str(error))


class Conn:
    """A stream connection; a bufio.Reader on it is the same object."""

    def __init__(self, raw: socket.socket) -> None:
        self.raw = raw
        self.buffer = b""

    def SetDeadline(self, due: Time) -> None:
        self.raw.settimeout(max(0.01, due.Sub(Time(time.time())) / 1e9))

    def Write(self, data: bytes) -> tuple[int, Optional[Error]]:
        try:
            self.raw.sendall(data)
            return len(data), None
        except OSError as error:
            return 0, told(error)

    def ReadString(self, _end: int) -> tuple[str, Optional[Error]]:
        try:
            while b"\n" not in self.buffer:
                more = self.raw.recv(65536)
                if not more:
                    return self.buffer.decode(), EOF
                self.buffer += more
        except OSError as error:
            return "", told(error)
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line.decode() + "\n", None

    def Close(self) -> None:
        self.raw.close()


def told(error: OSError) -> Error:
    """As Go words it, since the suite reads the words."""
    if isinstance(error, ConnectionResetError):
        return Error("connection reset by peer")
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return Error("EOF", [EOF])
    return Error(str(error) or type(error).__name__)


class TlsConfig:
    def __init__(self, ServerName: str = "", MinVersion: int = 0, RootCAs: Any = None) -> None:
        self.ServerName, self.MinVersion, self.RootCAs = ServerName, MinVersion, RootCAs

    def context(self) -> ssl.SSLContext:
        return trusting(None if self.RootCAs is None else self.RootCAs.pem)


class KeyPair:
    def __init__(self, certificate: bytes, key: bytes) -> None:
        self.certificate, self.key = certificate, key


class CertPool:
    def __init__(self) -> None:
        self.pem = ""

    def AppendCertsFromPEM(self, pem: bytes) -> bool:
        self.pem += pem.decode()
        return b"BEGIN CERTIFICATE" in pem


def dialers(network: Network) -> dict[str, type]:
    """net.Dialer and tls.Dialer on `network`."""

    class Dialer:
        def __init__(self, Config: Optional[TlsConfig] = None, Timeout: int = 0) -> None:
            self.config = Config

        def DialContext(self, context: Context, _kind: str, address: str) -> tuple[Optional[Conn], Optional[Error]]:
            host, port = split_host_port(address, 0)
            try:
                raw = network.connect(host, port, context.seconds_left(10.0))
                if self.config is not None:
                    raw = wrapped(self.config.context(), raw, self.config.ServerName)
                return Conn(raw), None
            except OSError as error:
                return None, told(error)

        def Dial(self, kind: str, address: str) -> tuple[Optional[Conn], Optional[Error]]:
            return self.DialContext(Context(), kind, address)

    return {"Dialer": Dialer}


def unmarshal(data: bytes, target: Any) -> Optional[Error]:
    try:
        value = json.loads(data)
    except ValueError as error:
        return Error(str(error))
    holder = target.get()
    target.set(decode(value, holder.type) if isinstance(holder, go.Value) else value)
    return None


def packages(network: Network) -> dict[str, dict[str, Any]]:
    return {
        "net": {"SplitHostPort": split, "JoinHostPort": join, "Conn": Conn, "ParseIP": lambda text: parse_addr(text)[0],
                **dialers(network)},
        "net/url": {"URL": Url, "Values": Values, "Parse": parse_url, "ParseQuery": parse_query},
        "net/netip": {"Addr": Addr, "ParseAddr": parse_addr},
        "net/http": {
            "Header": Header, "StatusMultipleChoices": 300, "StatusMovedPermanently": 301, "StatusFound": 302,
            "StatusSeeOther": 303, "StatusNotModified": 304, "StatusUseProxy": 305, "StatusTemporaryRedirect": 307,
            "StatusPermanentRedirect": 308, "StatusRequestTimeout": 408, "StatusGatewayTimeout": 504,
            "MethodGet": "GET", "MethodOptions": "OPTIONS", "MethodPost": "POST",
        },
        "encoding/json": {"Unmarshal": unmarshal},
        "bufio": {"NewReader": lambda connection: connection},
        "crypto/tls": {
            "Config": TlsConfig, "VersionTLS12": 0x303, "Certificate": KeyPair,
            "X509KeyPair": lambda certificate, key: (KeyPair(certificate, key), None),
            "VersionName": lambda version: {0x303: "TLS 1.2", 0x304: "TLS 1.3"}[version], **dialers(network),
        },
        "crypto/x509": {"NewCertPool": CertPool},
        "syscall": {"Errno": int, "ECONNRESET": 104},
    }
