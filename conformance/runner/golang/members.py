"""Fields and methods, also those of embedded structs."""

from __future__ import annotations

from typing import Any, Callable, Optional

from . import types as go
from .faults import GoError

#: Methods of durations and named numbers, whose types are not kept. Filled by those who know them.
NUMBER_METHODS: dict[str, Callable[..., Any]] = {}


def member(base: Any, name: str) -> Any:
    value = base.get() if isinstance(base, (go.Ref, go.Cell)) else base
    if isinstance(value, go.Value):
        holder = field_holder(value, name)
        if holder is not None:
            return holder.fields[name]
        method = bound_method(value, name)
        if method is not None:
            return method
        if name in ("DeepCopy", "DeepCopyObject"):
            return lambda: go.Ref(go.deep_copied(value))
        raise GoError(f"{value.type.name} has no field or method {name}")
    if isinstance(value, (go.Struct, go.Named)):
        return method_expression(value, name)
    if value is None:
        raise GoError(f"nil has no {name}")
    if isinstance(value, (int, float)) and not hasattr(value, name) and name in NUMBER_METHODS:
        return lambda *arguments: NUMBER_METHODS[name](value, *arguments)
    try:
        return getattr(value, name)
    except AttributeError as error:
        raise GoError(f"{type(value).__name__} has no {name}") from error


def field_holder(value: go.Value, name: str) -> Optional[go.Value]:
    if name in value.fields:
        return value
    for inner in embedded(value):
        if isinstance(inner, go.Value):
            holder = field_holder(inner, name)
            if holder is not None:
                return holder
    return None


def embedded(value: go.Value) -> list[Any]:
    found = []
    for each in value.type.fields.values():
        if each.embedded:
            inner = value.fields[each.name]
            found.append(inner.get() if isinstance(inner, (go.Ref, go.Cell)) else inner)
    return found


def bound_method(value: go.Value, name: str) -> Optional[Callable[..., Any]]:
    method = value.type.methods.get(name)
    if method is not None:
        receiver: Any = go.Ref(value) if method.by_pointer else value
        return lambda *arguments: method.function(receiver, *arguments)
    for inner in embedded(value):
        if isinstance(inner, go.Value):
            found = bound_method(inner, name)
            if found is not None:
                return found
        elif inner is not None and hasattr(inner, name):
            return getattr(inner, name)  # type: ignore[no-any-return]
    return None


def method_expression(kind: Any, name: str) -> Callable[..., Any]:
    method = kind.methods.get(name)
    if method is None:
        raise GoError(f"{kind.name} has no method {name}")
    return method.function  # type: ignore[no-any-return]


def set_member(base: Any, name: str, value: Any) -> None:
    target = base.get() if isinstance(base, (go.Ref, go.Cell)) else base
    if isinstance(target, go.Value):
        holder = field_holder(target, name)
        if holder is None:
            raise GoError(f"{target.type.name} has no field {name}")
        holder.fields[name] = value
    elif target is None:
        raise GoError(f"nil has no {name}")
    else:
        setattr(target, name, value)
