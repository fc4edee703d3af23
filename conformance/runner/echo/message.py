"""What the echo backends take and give, whatever the protocol."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any, Optional

Headers = list[tuple[str, str]]


@dataclass
class Request:
    method: str
    target: str
    host: str
    proto: str
    headers: Headers
    body: bytes = b""
    tls: Optional[dict[str, Any]] = None

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key.lower() == name), "")


@dataclass
class Answer:
    """No `status` means that the connection is to be reset instead."""

    status: Optional[int]
    headers: Headers = field(default_factory=list)
    body: bytes = b""
    trailers: Optional[Headers] = None


class Log:
    """What a pod printed, with the time of each line."""

    def __init__(self) -> None:
        self.lines: list[tuple[float, str]] = []
        self.lock = threading.Lock()

    def add(self, line: str) -> None:
        with self.lock:
            self.lines.append((time.time(), line))
            del self.lines[:-20000]

    def since(self, moment: float) -> list[str]:
        """As `kubectl logs --since-time`, whose times are whole seconds."""
        with self.lock:
            return [line for at, line in self.lines if at >= int(moment)]
