"""HTTP/1.1 and WebSocket on asyncio streams."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
import struct
from typing import Any, Awaitable, Callable, Optional

from .message import Answer, Headers, Request

Handler = Callable[[Request], Awaitable[Answer]]
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_BODILESS = (204, 304)


async def serve(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    handler: Handler,
    tls: Optional[dict[str, Any]] = None,
    opening: bytes = b"",
) -> None:
    """Serves one connection; `opening` was read already."""
    while True:
        head = opening + await reader.readuntil(b"\r\n\r\n")
        opening = b""
        request = parse_head(head.decode("latin-1"), tls)
        if request.header("expect").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.body = await read_body(reader, request)
        if request.header("upgrade").lower() == "websocket" and request.target.startswith("/ws"):
            await web_socket(reader, writer, request)
            return
        answer = await handler(request)
        if answer.status is None:
            reset(writer)
            return
        writer.write(rendered(answer, request.method))
        await writer.drain()
        if request.header("connection").lower() == "close":
            return


def parse_head(head: str, tls: Optional[dict[str, Any]]) -> Request:
    first, *lines = head.rstrip("\r\n").split("\r\n")
    method, target, proto = first.split(" ", 2)
    headers: Headers = []
    host = ""
    for line in lines:
        name, _, value = line.partition(":")
        if name.lower() == "host":
            host = value.strip()
        else:
            headers.append((name, value.strip()))
    return Request(method, target, host, proto, headers, tls=tls)


async def read_body(reader: asyncio.StreamReader, request: Request) -> bytes:
    if request.header("transfer-encoding").lower() == "chunked":
        body = b""
        while True:
            size = int((await reader.readline()).split(b";")[0], 16)
            chunk = await reader.readexactly(size + 2)
            if size == 0:
                return body
            body += chunk[:-2]
    length = request.header("content-length")
    return await reader.readexactly(int(length)) if length else b""


def rendered(answer: Answer, method: str) -> bytes:
    lines = [f"HTTP/1.1 {answer.status} Status", *(f"{name}: {value}" for name, value in answer.headers)]
    if answer.status not in _BODILESS:
        lines.append(f"Content-Length: {len(answer.body)}")
    body = b"" if method == "HEAD" or answer.status in _BODILESS else answer.body
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


def reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def accept_key(key: str) -> str:
    return base64.b64encode(hashlib.sha1((key + _GUID).encode()).digest()).decode()


async def web_socket(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Request) -> None:
    """Echoes frames until the client closes."""
    accept = accept_key(request.header("sec-websocket-key"))
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        + f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
    )
    while True:
        first, size = await reader.readexactly(2)
        length = size & 0x7F
        if length == 126:
            (length,) = struct.unpack(">H", await reader.readexactly(2))
        mask = await reader.readexactly(4)
        data = await reader.readexactly(length)
        payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
        if first & 0x0F == 8:
            return
        sized = bytes([length]) if length < 126 else b"\x7e" + struct.pack(">H", length)
        writer.write(bytes([first]) + sized + payload)
        await writer.drain()
