"""Kubernetes objects as Go structs and as JSON."""

from __future__ import annotations

import base64
from typing import Any

from ..golang import types as go


def decode(value: Any, kind: Any) -> Any:
    """JSON to a value of a Go type."""
    if isinstance(kind, go.Pointer):
        if value is None:
            return None
        inner = decode(value, kind.element)
        return go.Ref(inner) if isinstance(inner, go.Value) else go.Cell.holding(inner)
    while isinstance(kind, go.Named):
        kind = kind.underlying
    if isinstance(kind, go.Struct):
        return decode_struct(value or {}, kind)
    if isinstance(kind, go.ListOf):
        if isinstance(value, str):
            return base64.b64decode(value)
        return None if value is None else [decode(each, kind.element) for each in value]
    if isinstance(kind, go.MapOf):
        if value is None:
            return None
        return go.GoMap(kind, {key: decode(each, kind.value) for key, each in value.items()})
    if isinstance(kind, type):
        return kind()
    return go.zero(kind) if value is None else value


def decode_struct(value: Any, kind: go.Struct) -> go.Value:
    fields: dict[str, Any] = {}
    for name, each in kind.fields.items():
        key, _ = each.json
        if key == "-":
            fields[name] = go.zero(each.type)
        else:
            fields[name] = decode(value if key == "" else value.get(key), each.type)
    return go.Value(kind, fields)


def encode(value: Any) -> Any:
    """A Go value to JSON; what says so leaves itself out when it is empty."""
    if isinstance(value, (go.Ref, go.Cell)):
        return encode(value.get())
    if isinstance(value, go.Value):
        return encode_struct(value)
    if isinstance(value, dict):
        return {key: encode(each) for key, each in value.items()}
    if isinstance(value, list):
        return [encode(each) for each in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value if isinstance(value, (str, int, float, bool)) else None


def encode_struct(value: go.Value) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, each in value.type.fields.items():
        key, omit = each.json
        inner = value.fields[name]
        if key == "":
            found.update(encode(inner) or {})
        elif key != "-":
            coded = encode(inner)
            pointer = isinstance(inner, (go.Ref, go.Cell))
            if not (omit and not pointer and is_empty(coded)) and coded is not None:
                found[key] = coded
    return found


def is_empty(value: Any) -> bool:
    return value is None or value == "" or value == [] or value == {} or value is False or (
        isinstance(value, (int, float)) and value == 0
    )
