"""HTTP requests as Go's client makes them, over a connection that someone else opened."""

from __future__ import annotations

import http.client
import socket
import time
from dataclasses import dataclass, field
from typing import Optional

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamEnded, StreamReset, TrailersReceived

Headers = list[tuple[str, str]]


@dataclass
class Response:
    status: int
    proto: str
    headers: Headers
    body: bytes
    trailers: Headers = field(default_factory=list)


def http1(
    connection: socket.socket, method: str, target: str, host: str, headers: Headers, body: bytes, timeout: float
) -> Response:
    """One request, then the connection is closed."""
    due = time.monotonic() + timeout
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    lines.append("Connection: close")
    connection.settimeout(max(0.01, due - time.monotonic()))
    connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode() + body)
    answer = http.client.HTTPResponse(connection, method=method)
    try:
        answer.begin()
        return Response(answer.status, "HTTP/1.1", answer.getheaders(), answer.read())
    except http.client.HTTPException as error:
        raise OSError(f"{type(error).__name__} {error}") from error
    finally:
        answer.close()


class Http2:
    """One request over HTTP/2 with prior knowledge."""

    def __init__(self, raw: socket.socket, timeout: float) -> None:
        self.raw = raw
        self.due = time.monotonic() + timeout
        self.connection = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.answer = Response(0, "HTTP/2.0", [], b"")

    def request(self, fields: Headers, body: Optional[bytes]) -> Response:
        self.connection.initiate_connection()
        stream = self.connection.get_next_available_stream_id()
        self.connection.send_headers(stream, fields, end_stream=body is None)
        if body is not None:
            self.connection.send_data(stream, body, end_stream=True)
        while True:
            self.raw.settimeout(max(0.01, self.due - time.monotonic()))
            self.raw.sendall(self.connection.data_to_send())
            data = self.raw.recv(65536)
            if not data:
                raise OSError("EOF")
            for event in self.connection.receive_data(data):
                if self.heed(event):
                    return self.answer

    def heed(self, event: object) -> bool:
        if isinstance(event, ResponseReceived):
            fields = [(str(name), str(value)) for name, value in event.headers or []]
            self.answer.status = int(dict(fields)[":status"])
            self.answer.headers = [pair for pair in fields if not pair[0].startswith(":")]
        elif isinstance(event, DataReceived):
            self.answer.body += event.data or b""
            self.connection.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
        elif isinstance(event, TrailersReceived):
            self.answer.trailers = [(str(name), str(value)) for name, value in event.headers or []]
        elif isinstance(event, StreamReset):
            raise OSError(f"stream reset by peer: {event.error_code}")
        elif isinstance(event, ConnectionTerminated):
            raise OSError("connection ended by peer")
        return isinstance(event, StreamEnded)
