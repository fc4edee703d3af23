"""Types at run time: as much as zero values, composite literals and JSON need, and no checking."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from .faults import GoError


class GoType:
    """Every type. A plain Python class may stand for one too: a type of another module, implemented here."""

    def zero(self) -> Any:
        return None


@dataclass(eq=False)
class Basic(GoType):
    name: str
    zero_value: Any

    def zero(self) -> Any:
        return self.zero_value


@dataclass(eq=False)
class Pointer(GoType):
    element: Any


@dataclass(eq=False)
class ListOf(GoType):
    element: Any


@dataclass(eq=False)
class MapOf(GoType):
    key: Any
    value: Any


@dataclass(eq=False)
class Chan(GoType):
    element: Any


@dataclass(eq=False)
class Func(GoType):
    pass


@dataclass(eq=False)
class Interface(GoType):
    methods: list[str]


@dataclass(eq=False)
class Unknown(GoType):
    """A name of a package in Python that nothing stands for: harmless as the type of a field that nobody reads."""

    name: str


@dataclass
class StructField:
    name: str
    tag: str
    embedded: bool
    resolve: Callable[[], Any]
    _type: Any = None

    @property
    def type(self) -> Any:
        if self._type is None:
            self._type = self.resolve()
        return self._type

    @property
    def json(self) -> tuple[str, bool]:
        """Its name in JSON ("" when inlined) and whether it is left out when empty."""
        match = re.search(r'json:"([^"]*)"', self.tag)
        parts = match.group(1).split(",") if match else []
        if "inline" in parts[1:] or (self.embedded and not (parts and parts[0])):
            return "", False
        name = parts[0] if parts and parts[0] else self.name
        return name, "omitempty" in parts or "omitzero" in parts


@dataclass(eq=False)
class Struct(GoType):
    """A struct, named or not. Methods are found by name on the type and on what it embeds."""

    name: str
    fields: dict[str, StructField]
    methods: dict[str, "Method"] = field(default_factory=dict)

    def zero(self) -> "Value":
        return Value(self, {name: zero(each.type) for name, each in self.fields.items()})


@dataclass(eq=False)
class Named(GoType):
    """A type with a name whose underlying type is no struct, such as `type Hostname string`."""

    name: str
    underlying: Any
    methods: dict[str, "Method"] = field(default_factory=dict)

    def zero(self) -> Any:
        return zero(self.underlying)


@dataclass(eq=False)
class Method:
    by_pointer: bool
    function: Callable[..., Any]


class Value:
    """A struct value. A pointer to it is a `Ref` with this very object, so that both see the same fields."""

    __slots__ = ("type", "fields")

    def __init__(self, kind: Struct, fields: dict[str, Any]) -> None:
        self.type = kind
        self.fields = fields

    def copy(self) -> "Value":
        return Value(self.type, {name: copied(value) for name, value in self.fields.items()})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Value) and self.fields == other.fields

    def __hash__(self) -> int:
        return hash(tuple(sorted((name, repr(value)) for name, value in self.fields.items())))

    def __repr__(self) -> str:
        return f"{self.type.name}{self.fields}"


class Ref:
    """A pointer to a struct value."""

    __slots__ = ("target",)

    def __init__(self, target: Value) -> None:
        self.target = target

    def get(self) -> Value:
        return self.target

    def set(self, value: Value) -> None:
        self.target.type = value.type
        self.target.fields = value.copy().fields

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ref) and other.target is self.target

    def __hash__(self) -> int:
        return id(self.target)


class Cell:
    """A pointer to anything else: a variable, a field, an element."""

    __slots__ = ("get", "set")

    def __init__(self, get: Callable[[], Any], put: Callable[[Any], None]) -> None:
        self.get = get
        self.set = put

    @classmethod
    def holding(cls, value: Any) -> "Cell":
        box = [value]
        return cls(lambda: box[0], lambda fresh: box.__setitem__(0, fresh))


class GoMap(dict):  # type: ignore[type-arg]
    """A map that knows what a missing entry reads as."""

    def __init__(self, kind: Optional[MapOf] = None, entries: Any = ()) -> None:
        super().__init__(entries)
        self.kind = kind

    def missing(self) -> Any:
        return zero(self.kind.value) if self.kind else None

    __hash__ = None  # type: ignore[assignment]


def zero(kind: Any) -> Any:
    if isinstance(kind, GoType):
        return kind.zero()
    return kind() if isinstance(kind, type) else None


def copied(value: Any) -> Any:
    """What an assignment stores: structs are values, everything else is shared."""
    return value.copy() if type(value) is Value else value


def deep_copied(value: Any) -> Any:
    if isinstance(value, Value):
        return Value(value.type, {name: deep_copied(each) for name, each in value.fields.items()})
    if isinstance(value, Ref):
        return Ref(deep_copied(value.target))
    if isinstance(value, Cell):
        return Cell.holding(deep_copied(value.get()))
    if isinstance(value, GoMap):
        return GoMap(value.kind, {key: deep_copied(each) for key, each in value.items()})
    if isinstance(value, list):
        return [deep_copied(each) for each in value]
    return value


def deep_equal(left: Any, right: Any) -> bool:
    if isinstance(left, (Ref, Cell)) and isinstance(right, (Ref, Cell)):
        return deep_equal(left.get(), right.get())
    if isinstance(left, Value) and isinstance(right, Value):
        return left.fields.keys() == right.fields.keys() and all(
            deep_equal(value, right.fields[name]) for name, value in left.fields.items()
        )
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(deep_equal, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(deep_equal(each, right[key]) for key, each in left.items())
    return bool(left == right) and type(left) is type(right) or (left is None and right is None)


INTEGERS = ("int", "int8", "int16", "int32", "int64", "uint", "uint8", "uint16", "uint32", "uint64", "byte", "rune")
BASICS: dict[str, GoType] = {
    **{name: Basic(name, 0) for name in INTEGERS},
    "string": Basic("string", ""),
    "bool": Basic("bool", False),
    "float64": Basic("float64", 0.0),
    "float32": Basic("float32", 0.0),
    "any": Interface([]),
    "error": Interface(["Error"]),
}


def convert(kind: Any, value: Any) -> Any:
    """`T(value)`."""
    while isinstance(kind, Named):
        kind = kind.underlying
    if isinstance(kind, Unknown):
        raise GoError(f"nothing stands for {kind.name}")
    if isinstance(kind, Basic):
        if kind.name == "string":
            return value.decode() if isinstance(value, bytes) else chr(value) if isinstance(value, int) else value
        if kind.name.startswith("float"):
            return float(value)
        if kind.name in INTEGERS:
            return value if isinstance(value, bool) or not isinstance(value, float) else int(value)
    if isinstance(kind, ListOf) and isinstance(value, str):
        return value.encode()
    if isinstance(kind, MapOf) and isinstance(value, dict) and not isinstance(value, GoMap):
        return GoMap(kind, value)
    if isinstance(kind, type) and value is not None and not isinstance(value, kind):
        return kind(value)
    return value
