"""Runs statements. A statement returns None, or a signal: (keyword, value) that its surroundings must heed."""

from __future__ import annotations

import threading
import time
from typing import Any, Iterator

from . import syntax as ast
from . import types as go
from .calls import NAMED
from .channel import Channel
from .expressions import Expressions
from .operators import binary, equal
from .faults import GoError
from .scope import Scope


class Statements(Expressions):
    """One method for each kind of statement, by the name of its class."""

    def run(self, node: ast.Stmt, scope: Scope) -> Any:
        try:
            return getattr(self, "run_" + type(node).__name__)(node, scope)
        except GoError as error:
            if not getattr(error, "place", None):
                error.place = node.line  # type: ignore[attr-defined]
                error.args = (f"{error.args[0]} (near line {node.line})",)
            raise

    def run_block(self, statements: list[ast.Stmt], scope: Scope) -> Any:
        for statement in statements:
            signal = self.run(statement, scope)
            if signal is not None:
                return signal
        return None

    def run_Block(self, node: ast.Block, scope: Scope) -> Any:
        return self.run_block(node.statements, Scope(scope))

    def run_ExprStmt(self, node: ast.ExprStmt, scope: Scope) -> None:
        self.eval(node.expr, scope)

    # Assignments ------------------------------------------------------------------------------------------------------

    def run_Assign(self, node: ast.Assign, scope: Scope) -> None:
        if node.op not in ("=", ":="):
            value = binary(node.op[:-1], self.eval(node.targets[0], scope), self.eval(node.values[0], scope))
            self.store(node.targets[0], value, scope)
            return
        values = self.assigned(node.values, len(node.targets), scope)
        for target, value in zip(node.targets, values):
            if node.op == ":=" and isinstance(target, ast.Name) and target.name not in scope.names:
                scope.declare(target.name, go.copied(value))
            else:
                self.store(target, value, scope)

    def assigned(self, nodes: list[ast.Expr], count: int, scope: Scope) -> list[Any]:
        if len(nodes) == count:
            return [go.copied(self.eval(each, scope)) for each in nodes]
        node = nodes[0]
        if isinstance(node, ast.Index):
            mapping, key = self.eval(node.base, scope), self.eval(node.indices[0], scope)
            return [self.eval(node, scope), mapping is not None and key in mapping]
        if isinstance(node, ast.Assert):
            value = self.eval(node.base, scope)
            assert node.type is not None
            kind = self.eval(node.type, scope)
            return [value, True] if self.is_of(value, kind) else [go.zero(kind), False]
        if isinstance(node, ast.Unary) and node.op == "<-":
            return list(self.eval(node.operand, scope).receive())
        values = self.eval(node, scope)
        if not isinstance(values, tuple) or len(values) != count:
            raise GoError(f"line {node.line}: {count} values wanted, got {values!r}")
        return list(values)

    def run_Step(self, node: ast.Step, scope: Scope) -> None:
        self.store(node.target, (self.eval(node.target, scope) or 0) + node.by, scope)

    def run_Send(self, node: ast.Send, scope: Scope) -> None:
        self.eval(node.channel, scope).send(self.eval(node.value, scope))

    def run_DeclStmt(self, node: ast.DeclStmt, scope: Scope) -> None:
        for each in node.declarations:
            self.declare(each, scope)

    def declare(self, node: ast.Node, scope: Scope) -> None:
        if isinstance(node, ast.TypeDecl):
            scope.declare(node.name, self.declared_type(node, scope))
            return
        assert isinstance(node, ast.VarDecl)
        for name, value in zip(node.names, self.initial(node, scope)):
            scope.declare(name, value)

    def initial(self, node: ast.VarDecl, scope: Scope) -> list[Any]:
        if not node.values:
            assert node.type is not None
            kind = self.eval(node.type, scope)
            return [go.zero(kind) for _ in node.names]
        inner = Scope(scope)
        inner.declare("iota", node.iota)
        values = self.assigned(node.values, len(node.names), inner)
        if node.type is not None:
            kind = self.eval(node.type, scope)
            return [go.convert(kind, value) for value in values]
        return values

    def declared_type(self, node: ast.TypeDecl, scope: Scope) -> Any:
        inner = scope
        if node.parameters:
            inner = Scope(scope)
            for name in node.parameters:
                inner.declare(name, go.BASICS["any"])
        if isinstance(node.type, ast.StructType):
            return self.struct_type(node.name, node.type, inner)
        kind = self.eval(node.type, inner)
        if node.alias or isinstance(kind, (go.Interface, go.Func)):
            return kind
        if isinstance(kind, go.Struct):
            return go.Struct(node.name, kind.fields)
        return go.Named(node.name, kind)

    # Control ----------------------------------------------------------------------------------------------------------

    def run_Return(self, node: ast.Return, scope: Scope) -> Any:
        if not node.values:
            return ("return", NAMED)
        if len(node.values) == 1:
            return ("return", go.copied(self.eval(node.values[0], scope)))
        return ("return", tuple(go.copied(self.eval(each, scope)) for each in node.values))

    def run_Branch(self, node: ast.Branch, _scope: Scope) -> Any:
        return (node.keyword, node.label)

    def run_Deferred(self, node: ast.Deferred, scope: Scope) -> None:
        scope.lookup("#frame").deferred.append(self.prepared(node.call, scope))

    def run_GoStmt(self, node: ast.GoStmt, scope: Scope) -> None:
        threading.Thread(target=self.prepared(node.call, scope), daemon=True).start()

    def prepared(self, node: ast.Expr, scope: Scope) -> Any:
        """The call with its arguments evaluated now."""
        assert isinstance(node, ast.Call)
        if isinstance(node.function, ast.Name) and node.function.name == "close":
            return lambda: self.eval(node, scope)
        function, arguments = self.eval(node.function, scope), self.arguments(node, scope)
        return lambda: function(*arguments)

    def run_If(self, node: ast.If, scope: Scope) -> Any:
        inner = Scope(scope)
        if node.init is not None:
            self.run(node.init, inner)
        if self.eval(node.condition, inner):
            return self.run_block(node.then.statements, Scope(inner))
        return self.run(node.otherwise, inner) if node.otherwise is not None else None

    def run_For(self, node: ast.For, scope: Scope) -> Any:
        outer = Scope(scope)
        if node.init is not None:
            self.run(node.init, outer)
        while node.condition is None or self.eval(node.condition, outer):
            inner = Scope(outer)
            inner.names.update(outer.names)
            signal = self.run_block(node.body.statements, Scope(inner))
            outer.names.update(inner.names)
            leave, signal = loop_signal(signal, node.label)
            if leave:
                return signal
            if node.post is not None:
                self.run(node.post, outer)
        return None

    def run_Range(self, node: ast.Range, scope: Scope) -> Any:
        for key, value in pairs(self.eval(node.over, scope)):
            inner = Scope(scope)
            for target, each in ((node.key, key), (node.value, value)):
                if target is None:
                    continue
                if node.define:
                    assert isinstance(target, ast.Name)
                    inner.declare(target.name, go.copied(each))
                else:
                    self.store(target, each, scope)
            leave, signal = loop_signal(self.run_block(node.body.statements, inner), node.label)
            if leave:
                return signal
        return None

    def run_Switch(self, node: ast.Switch, scope: Scope) -> Any:
        inner = Scope(scope)
        if node.init is not None:
            self.run(node.init, inner)
        tag = self.eval(node.tag, inner) if node.tag is not None else True
        chosen = next((c for c in node.cases if c.matches is None), None)
        for case in node.cases:
            if any(equal(tag, self.eval(each, inner)) for each in case.matches or []):
                chosen = case
                break
        return self.run_case(chosen, inner)

    def run_case(self, case: Any, scope: Scope) -> Any:
        signal = self.run_block(case.body, Scope(scope)) if case is not None else None
        return None if signal == ("break", "") else signal

    def run_TypeSwitch(self, node: ast.TypeSwitch, scope: Scope) -> Any:
        value = self.eval(node.subject, scope)
        inner = Scope(scope)
        inner.declare(node.bind or "_", value)
        chosen = next((c for c in node.cases if c.matches is None), None)
        for case in node.cases:
            if any(self.matches_type(value, each, scope) for each in case.matches or []):
                chosen = case
                break
        return self.run_case(chosen, inner)

    def matches_type(self, value: Any, node: ast.Expr, scope: Scope) -> bool:
        if isinstance(node, ast.Name) and node.name == "nil":
            return value is None
        return self.is_of(value, self.eval(node, scope))

    def run_SelectStmt(self, node: ast.SelectStmt, scope: Scope) -> Any:
        """Polls: a select here is never a matter of microseconds."""
        fallback = next((c for c in node.cases if c.comm is None), None)
        waiting = [(case, *self.communication(case.comm, scope)) for case in node.cases if case.comm is not None]
        while True:
            for case, channel, bind in waiting:
                if channel.ready():
                    inner = Scope(scope)
                    value, _ = channel.receive()
                    if bind:
                        inner.declare(bind, value)
                    return self.run_case(case, inner)
            if fallback is not None:
                return self.run_case(fallback, scope)
            time.sleep(0.002)

    def communication(self, node: ast.Stmt, scope: Scope) -> tuple[Channel, str]:
        bind = ""
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            bind, expr = node.targets[0].name, node.values[0]
        elif isinstance(node, ast.ExprStmt):
            expr = node.expr
        else:
            raise GoError(f"line {node.line}: this case of a select")
        assert isinstance(expr, ast.Unary)
        return self.eval(expr.operand, scope), bind


def loop_signal(signal: Any, label: str) -> tuple[bool, Any]:
    """Whether the loop ends, and what its surroundings must heed."""
    if signal is None:
        return False, None
    keyword, value = signal
    if keyword == "break" and value in ("", label):
        return True, None
    if keyword == "continue" and value in ("", label):
        return False, None
    return True, signal


def pairs(over: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(over, (go.Ref, go.Cell)):
        over = over.get()
    if over is None:
        return iter(())
    if isinstance(over, float):
        over = int(over)
    if isinstance(over, int):
        return ((i, None) for i in range(over))
    if isinstance(over, dict):
        return iter(list(over.items()))
    if isinstance(over, Channel):
        return received(over)
    if isinstance(over, Sequence):
        return ((each, None) for each in over)
    if isinstance(over, set):
        return ((each, None) for each in list(over))
    return enumerate(list(over))


def received(channel: Channel) -> Iterator[tuple[Any, None]]:
    while True:
        value, more = channel.receive()
        if not more:
            return
        yield value, None


class Sequence(list):  # type: ignore[type-arg]
    """An `iter.Seq`: ranging over it gives its values, not their numbers."""
