"""What an echo pod answers to an HTTP or gRPC request: the request itself, and some faults on demand."""

from __future__ import annotations

import asyncio
import json
import re
import urllib.parse
from dataclasses import dataclass, field

from ..golib.net import canonical
from . import protobuf
from .message import Answer, Log, Request

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "us": 1e-6, "ns": 1e-9}
GRPC_SERVICE = "gateway_api_conformance.echo_basic.grpcecho.GrpcEcho"


@dataclass
class Pod:
    """One replica of a Deployment."""

    name: str
    namespace: str
    address: str
    labels: dict[str, str]
    log: Log = field(default_factory=Log)
    attempts: dict[str, int] = field(default_factory=dict)

    async def http(self, request: Request, port: str) -> Answer:
        path, _, query = request.target.partition("?")
        asked = dict(urllib.parse.parse_qsl(query))
        if path == "/health":
            return Answer(200, [], b"OK")
        if path.startswith("/status/"):
            code = re.fullmatch(r"/status/(\d\d\d)", request.target)
            return Answer(int(code.group(1)) if code else 400)
        if path.startswith("/retry/"):
            failed = await self.flaky(asked)
            if failed is not None:
                return failed
        return await self.echo(request, asked, port)

    async def flaky(self, asked: dict[str, str]) -> Answer | None:
        """Fails the first `succeedAfter` attempts of each `uuid`."""
        key = asked.get("uuid", "")
        if not key or not asked.get("succeedAfter", "").isdigit():
            return Answer(400, [], b"uuid and succeedAfter are required")
        if self.attempts.get(key, 0) >= int(asked["succeedAfter"]):
            return None
        self.attempts[key] = self.attempts.get(key, 0) + 1
        await asyncio.sleep(seconds(asked.get("delayRetry", "")))
        code = asked.get("responseCode", "")
        return Answer(int(code) if code.isdigit() else None)

    async def echo(self, request: Request, asked: dict[str, str], port: str) -> Answer:
        self.log.add(f"Echoing back request made to {request.target} to client")
        await asyncio.sleep(seconds(asked.get("delay", "")))
        headers: dict[str, list[str]] = {}
        for name, value in request.headers:
            headers.setdefault(canonical(name), []).append(value)
        told = {
            "path": request.target, "host": request.host, "method": request.method, "proto": request.proto,
            "headers": headers, "httpPort": port, "namespace": self.namespace, "ingress": "", "service": "",
            "pod": self.name,
        }
        if request.tls is not None:
            told["tls"] = request.tls
        answered = [*wanted_headers(headers), ("Content-Type", "application/json"), ("X-Content-Type-Options", "nosniff")]
        return Answer(200, answered, json.dumps(told, indent=1).encode())

    def grpc(self, request: Request) -> Answer:
        """Any unary method echoes but EchoThree, which is not implemented on purpose."""
        opening = [("content-type", "application/grpc")]
        if not request.header("content-type").startswith("application/grpc"):
            return Answer(415)
        if request.target == f"/{GRPC_SERVICE}/EchoThree":
            return Answer(200, opening, b"", [("grpc-status", "12"), ("grpc-message", "not implemented")])
        headers = [protobuf.encode([(1, name), (2, value)]) for name, value in request.headers]
        context = protobuf.encode([(1, self.namespace), (4, self.name)])
        told = [(1, request.target), *((2, header) for header in headers), (3, request.host), (4, context)]
        message = protobuf.encode([(1, protobuf.encode(told))])
        return Answer(200, opening, protobuf.framed(message), [("grpc-status", "0")])


def wanted_headers(headers: dict[str, list[str]]) -> list[tuple[str, str]]:
    """What the request wants to see in the answer; repeated names are joined."""
    found: dict[str, str] = {}
    for pair in ",".join(headers.get("X-Echo-Set-Header", [])).split(","):
        name, _, value = pair.strip().partition(":")
        if name:
            found[name] = f"{found[name]},{value.strip()}" if name in found else value
    return list(found.items())


def seconds(duration: str) -> float:
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+)(ms|us|ns|h|m|s)", duration))
