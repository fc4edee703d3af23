"""Packages time, context and wait."""

from __future__ import annotations

import re
import threading
import time
from datetime import datetime, timezone
from typing import Any, Callable, Optional

from ..golang import types as go
from ..golang.members import NUMBER_METHODS
from .errors import Error

NANOSECOND, MICROSECOND, MILLISECOND, SECOND = 1, 1_000, 1_000_000, 1_000_000_000
MINUTE, HOUR = 60 * SECOND, 3600 * SECOND
DEADLINE_EXCEEDED = Error("context deadline exceeded", kind="timeout")
CANCELED = Error("context canceled", kind="canceled")

NUMBER_METHODS.update({
    "Seconds": lambda ns: ns / SECOND,
    "Milliseconds": lambda ns: ns // MILLISECOND,
    "String": lambda ns: f"{ns / SECOND:g}s",
})


class Time:
    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def Add(self, nanoseconds: int) -> "Time":
        return Time(self.seconds + nanoseconds / SECOND)

    def Sub(self, other: "Time") -> int:
        return int((self.seconds - other.seconds) * SECOND)

    def Before(self, other: "Time") -> bool:
        return self.seconds < other.seconds

    def After(self, other: "Time") -> bool:
        return self.seconds > other.seconds

    def Equal(self, other: "Time") -> bool:
        return self.seconds == other.seconds

    def IsZero(self) -> bool:
        return self.seconds == 0.0

    def Format(self, _layout: str) -> str:
        return datetime.fromtimestamp(self.seconds, timezone.utc).strftime("%H:%M:%S.%f")

    String = lambda self: self.Format("")  # noqa: E731


class After:
    """The channel of time.After, without a thread behind it."""

    def __init__(self, nanoseconds: int) -> None:
        self.due = time.monotonic() + nanoseconds / SECOND

    def ready(self) -> bool:
        return time.monotonic() >= self.due

    def receive(self) -> tuple[Time, bool]:
        time.sleep(max(0.0, self.due - time.monotonic()))
        return Time(time.time()), True


class Context:
    def __init__(self, due: Optional[float] = None, parent: Optional["Context"] = None) -> None:
        parent_due = parent.due if parent else None
        self.due = min((each for each in (due, parent_due) if each is not None), default=None)
        self.parent = parent
        self.cancelled = threading.Event()

    def Err(self) -> Optional[Error]:
        if self.cancelled.is_set() or (self.parent is not None and self.parent.Err() is CANCELED):
            return CANCELED
        return DEADLINE_EXCEEDED if self.due is not None and time.monotonic() >= self.due else None

    def Done(self) -> "Context":
        return self

    def ready(self) -> bool:
        return self.Err() is not None

    def receive(self) -> tuple[None, bool]:
        while not self.ready():
            time.sleep(0.005)
        return None, False

    def seconds_left(self, otherwise: float) -> float:
        return otherwise if self.due is None else max(0.001, self.due - time.monotonic())


def with_timeout(parent: Context, nanoseconds: int) -> tuple[Context, Callable[[], None]]:
    made = Context(time.monotonic() + nanoseconds / SECOND, parent)
    return made, made.cancelled.set


def with_cancel(parent: Context) -> tuple[Context, Callable[[], None]]:
    made = Context(None, parent)
    return made, made.cancelled.set


def parse_duration(text: str) -> tuple[int, Optional[Error]]:
    units = {"h": HOUR, "m": MINUTE, "s": SECOND, "ms": MILLISECOND, "us": MICROSECOND, "ns": 1}
    parts = re.findall(r"([\d.]+)(ms|us|ns|h|m|s)", text)
    if not parts:
        return 0, Error(f"time: invalid duration {text!r}")
    return int(sum(float(number) * units[unit] for number, unit in parts)), None


Test = Callable[[Context], tuple[bool, Optional[Error]]]


def poll(context: Context, interval: int, timeout: int, _immediate: bool, test: Test) -> Optional[Error]:
    inner, _ = with_timeout(context, timeout)
    return poll_until(inner, interval, True, test)


def poll_until(context: Context, interval: int, _immediate: bool, test: Test) -> Optional[Error]:
    while True:
        done, error = test(context)
        if error is not None:
            return error
        if done:
            return None
        if context.Err() is not None:
            return context.Err()
        time.sleep(min(interval / SECOND, context.seconds_left(1.0)))


def now() -> Time:
    return Time(time.time())


PACKAGES: dict[str, dict[str, Any]] = {
    "time": {
        "Nanosecond": NANOSECOND, "Microsecond": MICROSECOND, "Millisecond": MILLISECOND, "Second": SECOND,
        "Minute": MINUTE, "Hour": HOUR, "RFC3339": "", "RFC3339Nano": "",
        "Duration": go.Basic("int64", 0), "Time": Time, "Now": now,
        "Since": lambda start: int((time.time() - start.seconds) * SECOND),
        "Sleep": lambda ns: time.sleep(ns / SECOND),
        "After": After, "ParseDuration": parse_duration,
    },
    "context": {
        "Background": Context, "TODO": Context, "WithTimeout": with_timeout, "WithCancel": with_cancel,
        "WithValue": lambda parent, *_: parent, "Context": Context, "DeadlineExceeded": DEADLINE_EXCEEDED,
        "Canceled": CANCELED,
    },
    "k8s.io/apimachinery/pkg/util/wait": {
        "PollUntilContextTimeout": poll, "PollUntilContextCancel": poll_until,
    },
}
