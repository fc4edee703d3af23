"""HTTP/2 on asyncio streams, with trailers."""

from __future__ import annotations

import asyncio
from typing import Any, Optional

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, RequestReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError

from .http1 import Handler
from .message import Answer, Request

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_CHUNK = 16384


class Session:
    """One connection. Answers are small: they are sent whole, within the peer's first window."""

    def __init__(self, writer: asyncio.StreamWriter, handler: Handler, tls: Optional[dict[str, Any]]) -> None:
        self.writer = writer
        self.handler = handler
        self.tls = tls
        self.connection = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.requests: dict[int, Request] = {}
        self.tasks: dict[int, asyncio.Task[None]] = {}

    async def serve(self, reader: asyncio.StreamReader, opening: bytes) -> None:
        self.connection.initiate_connection()
        data = opening
        while data:
            try:
                events = self.connection.receive_data(data)
            except ProtocolError:
                break
            for event in events:
                if isinstance(event, ConnectionTerminated):
                    return
                self.heed(event)
            await self.flush()
            data = await reader.read(65536)
        for task in self.tasks.values():
            task.cancel()

    def heed(self, event: Any) -> None:
        if isinstance(event, RequestReceived):
            self.requests[event.stream_id] = self.request(event.headers)
        elif isinstance(event, DataReceived):
            self.requests[event.stream_id].body += event.data
            self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded):
            self.tasks[event.stream_id] = asyncio.ensure_future(self.answer(event.stream_id))
        elif isinstance(event, StreamReset) and event.stream_id in self.tasks:
            self.tasks.pop(event.stream_id).cancel()

    def request(self, fields: Any) -> Request:
        pseudo = {name: value for name, value in fields if name.startswith(":")}
        headers = [(name, value) for name, value in fields if not name.startswith(":")]
        host = pseudo.get(":authority") or next((value for name, value in headers if name == "host"), "")
        headers = [(name, value) for name, value in headers if name != "host"]
        return Request(pseudo[":method"], pseudo.get(":path", ""), host, "HTTP/2.0", headers, tls=self.tls)

    async def answer(self, stream: int) -> None:
        answer = await self.handler(self.requests.pop(stream))
        self.tasks.pop(stream, None)
        if answer.status is None:
            self.connection.reset_stream(stream)
        else:
            self.send(stream, answer)
        await self.flush()

    def send(self, stream: int, answer: Answer) -> None:
        fields = [(":status", str(answer.status)), *((name.lower(), value) for name, value in answer.headers)]
        self.connection.send_headers(stream, fields, end_stream=not answer.body and answer.trailers is None)
        for at in range(0, len(answer.body), _CHUNK):
            last = at + _CHUNK >= len(answer.body) and answer.trailers is None
            self.connection.send_data(stream, answer.body[at:at + _CHUNK], end_stream=last)
        if answer.trailers is not None:
            self.connection.send_headers(stream, answer.trailers, end_stream=True)

    async def flush(self) -> None:
        self.writer.write(self.connection.data_to_send())
        await self.writer.drain()
