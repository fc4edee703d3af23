"""Evaluates expressions. A type is a value like any other here: what is called may turn out to be one."""

from __future__ import annotations

from typing import Any

from . import syntax as ast
from . import types as go
from .calls import Calls
from .members import member, set_member
from .operators import binary, unary
from .faults import GoError
from .scope import Package, Scope


class Expressions(Calls):
    """One method for each kind of expression, by the name of its class."""

    def eval(self, node: ast.Expr, scope: Scope) -> Any:
        return getattr(self, "eval_" + type(node).__name__)(node, scope)

    def eval_Name(self, node: ast.Name, scope: Scope) -> Any:
        return scope.lookup(node.name)

    def eval_Literal(self, node: ast.Literal, _scope: Scope) -> Any:
        return node.value

    def eval_Select(self, node: ast.Select, scope: Scope) -> Any:
        base = self.eval(node.base, scope)
        if isinstance(base, Package):
            return base.member(node.name)
        return member(base, node.name)

    def eval_Index(self, node: ast.Index, scope: Scope) -> Any:
        base = self.eval(node.base, scope)
        if isinstance(base, (go.GoType, type)) or callable(base):
            return self.instance(base)
        index = self.eval(node.indices[0], scope)
        if isinstance(base, (go.Ref, go.Cell)):
            base = base.get()
        if base is None:
            return "" if isinstance(index, str) else None
        if isinstance(base, dict):
            found = base.get(index, base)
            if found is base:
                return base.missing() if isinstance(base, go.GoMap) else None
            return found
        if isinstance(base, str):
            return ord(base[index])
        try:
            return base[index]
        except IndexError as error:
            raise GoError(f"line {node.line}: index {index} out of range") from error

    @staticmethod
    def instance(generic: Any) -> Any:
        """Type arguments change nothing here."""
        return generic

    def eval_Slice(self, node: ast.Slice, scope: Scope) -> Any:
        base = self.eval(node.base, scope)
        low = self.eval(node.low, scope) if node.low else None
        high = self.eval(node.high, scope) if node.high else None
        return None if base is None else base[low:high]

    def eval_Assert(self, node: ast.Assert, scope: Scope) -> Any:
        value = self.eval(node.base, scope)
        assert node.type is not None
        if not self.is_of(value, self.eval(node.type, scope)):
            raise GoError(f"line {node.line}: interface conversion of {value!r}")
        return value

    def is_of(self, value: Any, kind: Any) -> bool:
        """`value.(kind)`; names of basic types are not kept, their Python types have to do."""
        while isinstance(kind, go.Named):
            kind = kind.underlying
        if isinstance(kind, go.Unknown):
            raise GoError(f"nothing stands for {kind.name}")
        if value is None:
            # A nil list or map in an interface still has its type, which is not kept here.
            return isinstance(kind, (go.ListOf, go.MapOf))
        if isinstance(kind, go.Pointer):
            return isinstance(value, go.Ref) and value.target.type is kind.element or not isinstance(value, go.Ref)
        if isinstance(kind, go.Struct):
            return isinstance(value, go.Value) and value.type is kind
        if isinstance(kind, type):
            return isinstance(value, kind)
        if isinstance(kind, go.Basic):
            return type(value) is type(kind.zero())
        return True

    def eval_Unary(self, node: ast.Unary, scope: Scope) -> Any:
        if node.op == "&":
            return self.address(node.operand, scope)
        if node.op == "<-":
            return self.eval(node.operand, scope).receive()[0]
        return unary(node.op, self.eval(node.operand, scope))

    def eval_Binary(self, node: ast.Binary, scope: Scope) -> Any:
        left = self.eval(node.left, scope)
        if node.op == "&&":
            return bool(left) and bool(self.eval(node.right, scope))
        if node.op == "||":
            return bool(left) or bool(self.eval(node.right, scope))
        return binary(node.op, left, self.eval(node.right, scope))

    def eval_Star(self, node: ast.Star, scope: Scope) -> Any:
        operand = self.eval(node.operand, scope)
        if isinstance(operand, (go.GoType, type)):
            return go.Pointer(operand)
        if operand is None:
            raise GoError(f"line {node.line}: nil pointer")
        return operand.get() if isinstance(operand, (go.Ref, go.Cell)) else operand

    def address(self, node: ast.Expr, scope: Scope) -> Any:
        if isinstance(node, ast.Composite):
            made = self.eval(node, scope)
            return go.Ref(made) if isinstance(made, go.Value) else made
        value = self.eval(node, scope)
        if isinstance(value, go.Value):
            return go.Ref(value)
        if isinstance(node, ast.Name) and type(value).__module__.startswith("runner.golib"):
            return value
        return go.Cell(lambda: self.eval(node, scope), lambda fresh: self.store(node, fresh, scope))

    # Stores -----------------------------------------------------------------------------------------------------------

    def store(self, target: ast.Expr, value: Any, scope: Scope) -> None:
        if isinstance(target, ast.Name):
            if target.name != "_":
                holder = scope.holder(target.name)
                holder.names[target.name] = overwritten(holder.names[target.name], value)
        elif isinstance(target, ast.Select):
            base = self.eval(target.base, scope)
            if isinstance(base, Package):
                base.scope.names[target.name] = value
            else:
                set_member(base, target.name, go.copied(value))
        elif isinstance(target, ast.Index):
            self.store_element(target, value, scope)
        elif isinstance(target, ast.Star):
            self.eval(target.operand, scope).set(value)
        else:
            raise GoError(f"line {target.line}: cannot assign")

    def store_element(self, target: ast.Index, value: Any, scope: Scope) -> None:
        base = self.eval(target.base, scope)
        if isinstance(base, (go.Ref, go.Cell)):
            base = base.get()
        index = self.eval(target.indices[0], scope)
        if base is None:
            raise GoError(f"line {target.line}: assignment to entry in nil map")
        base[index] = go.copied(value)

    # Literals ---------------------------------------------------------------------------------------------------------

    def eval_FuncLit(self, node: ast.FuncLit, scope: Scope) -> Any:
        return self.closure(node.type, node.body, scope, "func literal")

    def eval_Composite(self, node: ast.Composite, scope: Scope) -> Any:
        assert node.type is not None
        return self.compose(self.eval(node.type, scope), node, scope)

    def compose(self, kind: Any, node: ast.Composite, scope: Scope) -> Any:
        named = kind
        while isinstance(kind, go.Named):
            kind = kind.underlying
        if isinstance(kind, go.Pointer):
            return go.Ref(self.compose(kind.element, node, scope))
        if isinstance(kind, go.Struct):
            return self.compose_struct(kind, node, scope)
        if isinstance(kind, go.ListOf):
            items = [self.element(kind.element, each, scope) for _, each in node.elements]
            return bytes(items) if getattr(kind.element, "name", "") == "byte" else items
        if isinstance(kind, go.MapOf):
            entries = go.GoMap(kind)
            for key, each in node.elements:
                assert key is not None
                entries[self.element(kind.key, key, scope)] = self.element(kind.value, each, scope)
            return entries
        if isinstance(kind, type):
            return self.compose_native(kind, node, scope)
        raise GoError(f"line {node.line}: composite literal of {named!r}")

    def compose_native(self, kind: type, node: ast.Composite, scope: Scope) -> Any:
        if issubclass(kind, (dict, set)):
            made = kind()
            for key, each in node.elements:
                assert key is not None
                made[self.eval(key, scope)] = self.element(go.ListOf(go.BASICS["string"]), each, scope)
            return made
        fields = {}
        for key, each in node.elements:
            assert isinstance(key, ast.Name)
            fields[key.name] = self.eval(each, scope)
        return kind(**fields)

    def compose_struct(self, kind: go.Struct, node: ast.Composite, scope: Scope) -> go.Value:
        fields: dict[str, Any] = {}
        if node.elements and node.elements[0][0] is None:
            for each, (_, item) in zip(kind.fields.values(), node.elements):
                fields[each.name] = self.element(each.type, item, scope)
        for key, item in node.elements:
            if isinstance(key, ast.Name):
                if key.name not in kind.fields:
                    raise GoError(f"line {node.line}: {kind.name} has no field {key.name}")
                fields[key.name] = self.element(kind.fields[key.name].type, item, scope)
        for name, each in kind.fields.items():
            if name not in fields:
                fields[name] = go.zero(each.type)
        return go.Value(kind, fields)

    def element(self, kind: Any, node: ast.Expr, scope: Scope) -> Any:
        if isinstance(node, ast.Composite) and node.type is None:
            return self.compose(kind, node, scope)
        return go.copied(self.eval(node, scope))

    # Types as expressions ---------------------------------------------------------------------------------------------

    def eval_ListType(self, node: ast.ListType, scope: Scope) -> Any:
        return go.ListOf(self.eval(node.element, scope))

    def eval_MapType(self, node: ast.MapType, scope: Scope) -> Any:
        return go.MapOf(self.eval(node.key, scope), self.eval(node.value, scope))

    def eval_ChanType(self, node: ast.ChanType, scope: Scope) -> Any:
        return go.Chan(self.eval(node.element, scope))

    def eval_FuncType(self, _node: ast.FuncType, _scope: Scope) -> Any:
        return go.Func()

    def eval_InterfaceType(self, node: ast.InterfaceType, _scope: Scope) -> Any:
        return go.Interface(node.methods)

    def eval_StructType(self, node: ast.StructType, scope: Scope) -> Any:
        return self.struct_type("struct", node, scope)

    def struct_type(self, name: str, node: ast.StructType, scope: Scope) -> go.Struct:
        fields: dict[str, go.StructField] = {}
        for each in node.fields:
            for field in each.names or [type_name(each.type)]:
                resolve = lambda kind=each.type: self.eval(kind, scope)  # noqa: E731
                fields[field] = go.StructField(field, each.tag, each.embedded, resolve)
        return go.Struct(name, fields)


def overwritten(old: Any, value: Any) -> Any:
    """A struct variable keeps its place, since pointers may point to it."""
    if type(old) is go.Value and type(value) is go.Value and old.type is value.type:
        if old is not value:
            old.fields = value.copy().fields
        return old
    return go.copied(value)


def type_name(node: ast.Expr) -> str:
    if isinstance(node, ast.Star):
        return type_name(node.operand)
    if isinstance(node, ast.Index):
        return type_name(node.base)
    if isinstance(node, (ast.Name, ast.Select)):
        return node.name
    raise GoError("embedded field without a name")
