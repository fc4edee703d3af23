"""The line protocol of the TCP echo backend."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Optional

WELCOME = b"Gateway API Test TCP Server\n"


async def serve(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    pod: str,
    namespace: str,
    tls: Optional[dict[str, Any]],
) -> None:
    told: dict[str, Any] = {"namespace": namespace, "ingress": "", "service": "", "pod": pod, "isTLS": tls is not None}
    if tls is not None:
        told["tls"] = tls
    answers = {
        b"TEST": json.dumps(told).encode(),
        b"IS_TLS": b"true" if tls is not None else b"false",
        b"PING": b"PONG",
    }
    writer.write(WELCOME)
    while line := await reader.readline():
        answer = answers.get(line.strip())
        if answer is not None:
            writer.write(answer + b"\n")
            await writer.drain()
