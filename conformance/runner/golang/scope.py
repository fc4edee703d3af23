"""Names and what they stand for."""

from __future__ import annotations

import threading
from typing import Any, Callable, Iterator, Optional

from . import types as go
from .faults import GoError


class Lazy:
    """A package's variable, evaluated when it is first asked for, in whatever order the sources have it."""

    LOCK = threading.RLock()

    def __init__(self, evaluate: Callable[[], Any]) -> None:
        self.evaluate = evaluate

    def make(self) -> Any:
        """One at a time: what is evaluated twice would be two types of one name."""
        with self.LOCK:
            return self.evaluate()


class Scope:
    __slots__ = ("names", "parent")

    def __init__(self, parent: Optional["Scope"] = None) -> None:
        self.names: dict[str, Any] = {}
        self.parent = parent

    def lookup(self, name: str) -> Any:
        scope: Optional[Scope] = self
        while scope is not None:
            if name in scope.names:
                found = scope.names[name]
                if isinstance(found, Lazy):
                    found = found.make()
                return found
            scope = scope.parent
        raise GoError(f"undefined: {name}")

    def holder(self, name: str) -> "Scope":
        for scope in self.chain():
            if name in scope.names:
                return scope
        raise GoError(f"undefined: {name}")

    def chain(self) -> Iterator["Scope"]:
        scope: Optional[Scope] = self
        while scope is not None:
            yield scope
            scope = scope.parent

    def declare(self, name: str, value: Any) -> None:
        if name != "_":
            self.names[name] = value


class Package:
    """An imported package: Go source that was read, or Python that stands for it."""

    def __init__(self, path: str, scope: Scope, native: bool = False) -> None:
        self.path = path
        self.scope = scope
        self.native = native

    def member(self, name: str) -> Any:
        found = self.scope.names.get(name, self)
        if found is self and self.native:
            return go.Unknown(f"{self.path}.{name}")
        if found is self:
            raise GoError(f"{self.path} has no {name}")
        return found.make() if isinstance(found, Lazy) else found
