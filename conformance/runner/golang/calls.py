"""Calls, builtins and closures. Every function is a Python callable; several results are a tuple."""

from __future__ import annotations

from typing import Any, Callable, Optional

from . import syntax as ast
from . import types as go
from .channel import Channel
from .faults import GoError, GoPanic
from .scope import Scope


class Frame:
    """What belongs to one call: deferred calls and named results."""

    def __init__(self) -> None:
        self.deferred: list[Callable[[], Any]] = []


class Calls:
    def eval(self, node: ast.Expr, scope: Scope) -> Any:
        raise NotImplementedError

    def run_block(self, statements: list[ast.Stmt], scope: Scope) -> Any:
        raise NotImplementedError

    def eval_Call(self, node: ast.Call, scope: Scope) -> Any:
        if isinstance(node.function, ast.Name) and node.function.name in BUILTINS:
            return getattr(self, "builtin_" + node.function.name)(node, scope)
        function = self.eval(node.function, scope)
        arguments = self.arguments(node, scope)
        if isinstance(function, go.GoType) or (isinstance(function, type) and hasattr(function, "go_type")):
            return go.convert(function, arguments[0])
        if function is None:
            raise GoError(f"line {node.line}: call of nil")
        return function(*arguments)

    def arguments(self, node: ast.Call, scope: Scope) -> list[Any]:
        values = [go.copied(self.eval(each, scope)) for each in node.arguments]
        if len(values) == 1 and isinstance(values[0], tuple):
            return list(values[0])
        if node.spread:
            values[-1:] = values[-1] or []
        return values

    # Closures ---------------------------------------------------------------------------------------------------------

    def closure(self, kind: ast.FuncType, body: ast.Block, scope: Scope, name: str) -> Callable[..., Any]:
        binds = _binder(kind.parameters)
        results = [result for each in kind.results for result in each.names]

        def call(*arguments: Any) -> Any:
            inner = Scope(scope)
            binds(inner, arguments)
            for each in kind.results:
                for result in each.names:
                    inner.declare(result, go.zero(self.eval(each.type, scope)))
            return self.run_function(body, inner, results)

        call.__name__ = name
        return call

    def run_function(self, body: ast.Block, scope: Scope, results: list[str]) -> Any:
        frame = Frame()
        scope.names["#frame"] = frame
        try:
            signal = self.run_block(body.statements, scope)
        finally:
            for deferred in reversed(frame.deferred):
                deferred()
        if signal is None:
            return None
        _, values = signal
        if values is NAMED:
            found = tuple(scope.lookup(name) for name in results)
            return found[0] if len(found) == 1 else found or None
        return values

    # Builtins ---------------------------------------------------------------------------------------------------------

    def values_of(self, node: ast.Call, scope: Scope) -> list[Any]:
        return self.arguments(node, scope)

    def builtin_len(self, node: ast.Call, scope: Scope) -> int:
        (value,) = self.values_of(node, scope)
        return 0 if value is None else len(value.encode()) if isinstance(value, str) else len(value)

    def builtin_cap(self, node: ast.Call, scope: Scope) -> int:
        return self.builtin_len(node, scope)

    def builtin_append(self, node: ast.Call, scope: Scope) -> Any:
        base, *more = self.values_of(node, scope)
        if isinstance(base, bytes):
            return base + bytes(more)
        return [*(base or []), *more]

    def builtin_make(self, node: ast.Call, scope: Scope) -> Any:
        kind = self.eval(node.arguments[0], scope)
        while isinstance(kind, go.Named):
            kind = kind.underlying
        if isinstance(kind, go.MapOf):
            return go.GoMap(kind)
        size = self.eval(node.arguments[1], scope) if len(node.arguments) > 1 else 0
        if isinstance(kind, go.Chan):
            return Channel(size)
        if isinstance(kind, go.ListOf):
            return [go.zero(kind.element) for _ in range(size)]
        return kind()

    def builtin_new(self, node: ast.Call, scope: Scope) -> Any:
        """Of a type, or (since Go 1.26) of a value."""
        value = self.eval(node.arguments[0], scope)
        if isinstance(value, (go.GoType, type)):
            value = go.zero(value)
        value = go.copied(value)
        if isinstance(value, go.Value):
            return go.Ref(value)
        return value if type(value).__module__.startswith("runner.golib") else go.Cell.holding(value)

    def builtin_delete(self, node: ast.Call, scope: Scope) -> None:
        mapping, key = self.values_of(node, scope)
        if mapping is not None:
            mapping.pop(key, None)

    def builtin_copy(self, node: ast.Call, scope: Scope) -> int:
        target, source = self.values_of(node, scope)
        count = min(len(target), len(source))
        target[:count] = source[:count]
        return count

    def builtin_close(self, node: ast.Call, scope: Scope) -> None:
        self.values_of(node, scope)[0].close()

    def builtin_panic(self, node: ast.Call, scope: Scope) -> None:
        raise GoPanic(str(self.values_of(node, scope)[0]))

    def builtin_min(self, node: ast.Call, scope: Scope) -> Any:
        return min(self.values_of(node, scope))

    def builtin_max(self, node: ast.Call, scope: Scope) -> Any:
        return max(self.values_of(node, scope))


BUILTINS = {name.removeprefix("builtin_") for name in dir(Calls) if name.startswith("builtin_")}
NAMED = object()


def _binder(parameters: list[ast.Field]) -> Callable[[Scope, tuple[Any, ...]], None]:
    names: list[str] = []
    rest: Optional[str] = None
    for each in parameters:
        if each.variadic:
            rest = each.names[0] if each.names else "_"
        else:
            names.extend(each.names or ["_"])

    def bind(scope: Scope, arguments: tuple[Any, ...]) -> None:
        for name, value in zip(names, arguments):
            scope.declare(name, value)
        if rest is not None:
            scope.declare(rest, list(arguments[len(names):]) or None)

    return bind
