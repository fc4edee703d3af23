"""Packages testing and testify."""

from __future__ import annotations

import threading
import time
from typing import Any, Callable, Optional

from ..golang import types as go
from .clock import SECOND, Context
from .format import display, quoted, sprint, sprintf


class TestStopped(BaseException):
    """FailNow or SkipNow: unwinds to the t.Run that it happened in, past everything else."""


class T:
    """A test or subtest. Subtests always run one after the other; nothing here needs them to overlap."""

    def __init__(self, name: str, parent: Optional["T"] = None) -> None:
        self.name = name
        self.parent = parent
        self.failed = False
        self.skipped = ""
        self.faults: list[str] = []
        self.logs: list[str] = []
        self.cleanups: list[Callable[[], Any]] = []
        self.subtests: list["T"] = []
        self.lock = threading.Lock()

    def Run(self, name: str, function: Callable[["T"], Any]) -> bool:
        inner = T(f"{self.name}/{name.replace(' ', '_')}", self)
        self.subtests.append(inner)
        inner.execute(lambda: function(inner))
        return not inner.failed

    def execute(self, function: Callable[[], Any]) -> None:
        try:
            function()
        except TestStopped:
            pass
        finally:
            for cleanup in reversed(self.cleanups):
                try:
                    cleanup()
                except TestStopped:
                    pass

    def Name(self) -> str:
        return self.name

    def Helper(self) -> None:
        pass

    Parallel = Helper

    def Cleanup(self, function: Callable[[], Any]) -> None:
        self.cleanups.append(function)

    def Context(self) -> Context:
        return Context()

    def Log(self, *arguments: Any) -> None:
        with self.lock:
            self.logs.append(sprint(*arguments))
            del self.logs[:-400]

    def Logf(self, pattern: str, *arguments: Any) -> None:
        self.Log(sprintf(pattern, *arguments))

    def fault(self, text: str) -> None:
        self.faults.append(text)
        self.Log("FAULT " + text)
        at: Optional[T] = self
        while at is not None:
            at.failed = True
            at = at.parent

    def Error(self, *arguments: Any) -> None:
        self.fault(sprint(*arguments))

    def Errorf(self, pattern: str, *arguments: Any) -> None:
        self.fault(sprintf(pattern, *arguments))

    def FailNow(self) -> None:
        self.fault("FailNow") if not self.failed else None
        raise TestStopped

    def Fatal(self, *arguments: Any) -> None:
        self.fault(sprint(*arguments))
        raise TestStopped

    def Fatalf(self, pattern: str, *arguments: Any) -> None:
        self.Fatal(sprintf(pattern, *arguments))

    def Skip(self, *arguments: Any) -> None:
        self.skipped = sprint(*arguments) or "skipped"
        raise TestStopped

    def Skipf(self, pattern: str, *arguments: Any) -> None:
        self.Skip(sprintf(pattern, *arguments))

    def Failed(self) -> bool:
        return self.failed

    def Skipped(self) -> bool:
        return bool(self.skipped)


def is_empty(value: Any) -> bool:
    value = value.get() if isinstance(value, (go.Ref, go.Cell)) else value
    return value is None or (hasattr(value, "__len__") and len(value) == 0) or value in (0, False, "")


def is_within(items: Any, item: Any) -> bool:
    return item in (items if items is not None else [])


def is_subset(whole: Any, part: Any) -> bool:
    if isinstance(part, dict):
        return all(key in (whole or {}) and whole[key] == each for key, each in part.items())
    return all(each in (whole or []) for each in part or [])


def eventually(test: Callable[[], bool], timeout: int, interval: int) -> bool:
    due = time.monotonic() + timeout / SECOND
    while True:
        if test():
            return True
        if time.monotonic() >= due:
            return False
        time.sleep(interval / SECOND)


Check = Callable[..., tuple[bool, str]]
CHECKS: dict[str, tuple[int, Check]] = {
    "NoError": (1, lambda error: (error is None, f"received unexpected error: {display(error)}")),
    "Error": (1, lambda error: (error is not None, "an error is expected but got nil")),
    "True": (1, lambda value: (value is True, "should be true")),
    "False": (1, lambda value: (value is False, "should be false")),
    "Equal": (2, lambda want, got: (go.deep_equal(want, got), f"not equal: want {quoted(want)}, got {quoted(got)}")),
    "NotEqual": (2, lambda want, got: (not go.deep_equal(want, got), f"should not be {quoted(got)}")),
    "Nil": (1, lambda value: (value is None, f"should be nil, is {display(value)}")),
    "NotNil": (1, lambda value: (value is not None, "should not be nil")),
    "Empty": (1, lambda value: (is_empty(value), f"should be empty, is {display(value)}")),
    "NotEmpty": (1, lambda value: (not is_empty(value), "should not be empty")),
    "Len": (2, lambda value, count: (len(value or []) == count, f"should have {count} items: {display(value)}")),
    "Contains": (2, lambda items, item: (is_within(items, item), f"{display(items)} lacks {display(item)}")),
    "NotContains": (2, lambda items, item: (not is_within(items, item), f"{display(items)} has {display(item)}")),
    "Subset": (2, lambda whole, part: (is_subset(whole, part), f"{display(whole)} lacks some of {display(part)}")),
    "GreaterOrEqual": (2, lambda left, right: (left >= right, f"{left} is less than {right}")),
    "Eventually": (3, lambda *arguments: (eventually(*arguments), "condition never satisfied")),
    "FailNow": (1, lambda text: (False, text)),
}


def assertion(count: int, check: Check, fatal: bool) -> Callable[..., bool]:
    def run(t: T, *arguments: Any) -> bool:
        holds, why = check(*arguments[:count])
        if holds:
            return True
        message = arguments[count:]
        told = sprintf(message[0], *message[1:]) if message and isinstance(message[0], str) else ""
        t.fault(f"{told}: {why}" if told else why)
        if fatal:
            raise TestStopped
        return False

    return run


def assertions(fatal: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, (count, check) in CHECKS.items():
        found[name] = found[name + "f"] = assertion(count, check, fatal)
    return found


PACKAGES: dict[str, dict[str, Any]] = {
    "testing": {"T": T},
    "github.com/stretchr/testify/require": assertions(fatal=True),
    "github.com/stretchr/testify/assert": assertions(fatal=False),
}
