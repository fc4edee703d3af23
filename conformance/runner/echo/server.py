"""Runs the echo pods of a cluster, all on one event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
import threading
import weakref
from dataclasses import dataclass
from typing import Any, Coroutine, Optional

from . import http1, http2, tcp
from .answers import Pod
from .message import Answer, Request


@dataclass
class Port:
    """`speaks` is http, h2c, grpc or tcp; `tls` makes it encrypted."""

    number: int
    speaks: str
    tls: Optional["Identity"] = None


@dataclass
class Identity:
    """PEM texts; with `client_ca`, a client's certificate is asked for and checked."""

    certificate: bytes
    key: bytes
    client_ca: bytes = b""


class EchoServer:
    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.servers: dict[str, list[asyncio.Server]] = {}
        self.names: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    def start(self, pod: Pod, ports: list[Port]) -> None:
        self.servers[pod.address] = [self.run(self.listen(pod, port)) for port in ports]

    def stop(self, pod: Pod) -> None:
        async def close() -> None:
            for server in self.servers.pop(pod.address, []):
                server.close()

        self.run(close())

    async def listen(self, pod: Pod, port: Port) -> asyncio.Server:
        context = self.context(port.tls, port.speaks) if port.tls is not None else None

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await self.connection(pod, port, reader, writer)
            except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
                pass
            finally:
                writer.close()

        return await asyncio.start_server(accept, pod.address, port.number, ssl=context, backlog=512)

    async def connection(
        self, pod: Pod, port: Port, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        tls = self.tls_told(writer) if port.tls is not None else None
        if port.speaks == "tcp":
            await tcp.serve(reader, writer, pod.name, pod.namespace, tls)
            return
        opening = await reader.read(len(http2.PREFACE))
        if opening == http2.PREFACE[:len(opening)] and len(opening) < len(http2.PREFACE):
            opening += await reader.readexactly(len(http2.PREFACE) - len(opening))
        if opening == http2.PREFACE:
            await http2.Session(writer, self.handler(pod, port), tls).serve(reader, opening)
        elif port.speaks == "http":
            await http1.serve(reader, writer, self.handler(pod, port), tls, opening)
        elif opening:
            writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    def handler(self, pod: Pod, port: Port) -> http1.Handler:
        async def handle(request: Request) -> Answer:
            if port.speaks == "grpc" or request.header("content-type").startswith("application/grpc"):
                return pod.grpc(request)
            return await pod.http(request, "3000" if port.number in (3000, 3001, 8443) else str(port.number))

        return handle

    def context(self, identity: Identity, speaks: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile() as pem:
            pem.write(identity.certificate + b"\n" + identity.key)
            pem.flush()
            context.load_cert_chain(pem.name)
        if identity.client_ca:
            context.verify_mode = ssl.CERT_OPTIONAL
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
            context.load_verify_locations(cadata=identity.client_ca.decode())
        if speaks != "tcp":
            context.set_alpn_protocols(["h2"] if speaks == "grpc" else ["h2", "http/1.1"])

        def named(connection: ssl.SSLObject, name: Optional[str], _context: ssl.SSLContext) -> None:
            self.names[connection] = name or ""

        context.sni_callback = named  # type: ignore[assignment]
        return context

    def tls_told(self, writer: asyncio.StreamWriter) -> dict[str, Any]:
        connection = writer.get_extra_info("ssl_object")
        der = connection.getpeercert(binary_form=True)
        told = {
            "version": connection.version(),
            "serverName": self.names.get(connection, ""),
            "negotiatedProtocol": connection.selected_alpn_protocol() or "",
            "cipherSuite": connection.cipher()[0],
        }
        if der:
            told["peerCertificates"] = [ssl.DER_cert_to_PEM_cert(der)]
        return told
