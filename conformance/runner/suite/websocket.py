"""golang.org/x/net/websocket's client."""

from __future__ import annotations

import base64
import os
import socket
import struct
import urllib.parse
from typing import Any, Optional

from ..echo.http1 import accept_key
from ..golib.errors import Error
from ..network import Network, split_host_port


class WebSocket:
    def __init__(self, raw: socket.socket) -> None:
        self.raw = raw

    def Close(self) -> None:
        self.raw.close()

    def frame(self, kind: int, data: bytes) -> None:
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
        self.raw.sendall(bytes([0x80 | kind, 0x80 | len(data)]) + mask + masked)

    def exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.raw.recv(size - len(data))
            if not more:
                raise OSError("EOF")
            data += more
        return data

    def read(self) -> tuple[int, bytes]:
        first, size = self.exactly(2)
        length = size & 0x7F
        if length == 126:
            (length,) = struct.unpack(">H", self.exactly(2))
        return first & 0x0F, self.exactly(length)


class Message:
    """The codec: text or bytes, by what it is given and where it is to go."""

    @staticmethod
    def Send(connection: WebSocket, value: Any) -> Optional[Error]:
        try:
            if isinstance(value, str):
                connection.frame(1, value.encode())
            else:
                connection.frame(2, bytes(value))
        except OSError as error:
            return Error(str(error))
        return None

    @staticmethod
    def Receive(connection: WebSocket, target: Any) -> Optional[Error]:
        try:
            kind, data = connection.read()
        except OSError as error:
            return Error(str(error))
        target.set(data.decode() if kind == 1 else data)
        return None


class Dialer:
    def __init__(self, network: Network) -> None:
        self.network = network

    def Dial(self, url: str, _protocol: str, origin: str) -> tuple[Optional[WebSocket], Optional[Error]]:
        parts = urllib.parse.urlsplit(url)
        host, port = split_host_port(parts.netloc, 80)
        key = base64.b64encode(os.urandom(16)).decode()
        try:
            raw = self.network.connect(host, port, 10.0)
            raw.sendall((
                f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Key: {key}\r\nOrigin: {urllib.parse.quote(origin, safe=':/')}\r\n"
                "Sec-WebSocket-Version: 13\r\n\r\n"
            ).encode())
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                byte = raw.recv(1)
                if not byte:
                    raise OSError("EOF")
                head += byte
        except OSError as error:
            return None, Error(str(error))
        if b" 101 " not in head.split(b"\r\n")[0] or accept_key(key).encode() not in head:
            return None, Error("bad status")
        return WebSocket(raw), None
