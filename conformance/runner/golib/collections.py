"""Packages slices, maps, cmp, math, reflect, sets, ptr, uuid and crypto/rand."""

from __future__ import annotations

import math
import random
import uuid
from typing import Any, Callable

from ..golang import types as go
from ..golang.members import member
from .text import sort_by


class Set(set):  # type: ignore[type-arg]
    """k8s.io/apimachinery's sets.Set."""

    def __init__(self, *items: Any) -> None:
        super().__init__(items)

    def Insert(self, *items: Any) -> "Set":
        self.update(items)
        return self

    def Delete(self, *items: Any) -> "Set":
        self.difference_update(items)
        return self

    def Has(self, item: Any) -> bool:
        return item in self

    def HasAll(self, *items: Any) -> bool:
        return all(item in self for item in items)

    def UnsortedList(self) -> list[Any]:
        return list(self)

    def Len(self) -> int:
        return len(self)

    def Union(self, other: set[Any]) -> "Set":
        return Set(*(self | other))

    def Difference(self, other: set[Any]) -> "Set":
        return Set(*(self - other))

    def Intersection(self, other: set[Any]) -> "Set":
        return Set(*(self & other))


class Reflected:
    """As much of reflect.Value as reaching into a status by field name takes."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def Elem(self) -> "Reflected":
        return Reflected(self.value.get())

    def FieldByName(self, name: str) -> "Reflected":
        return Reflected(member(self.value, name))

    def Interface(self) -> Any:
        return self.value


def contains(items: Any, item: Any) -> bool:
    return any(each == item for each in items or [])


def index_func(items: Any, test: Callable[[Any], bool]) -> int:
    return next((at for at, item in enumerate(items or []) if test(item)), -1)


def deref(pointer: Any, default: Any) -> Any:
    return default if pointer is None else pointer.get()


def pointer_to(value: Any) -> Any:
    return go.Ref(value) if isinstance(value, go.Value) else go.Cell.holding(value)


def compare(left: Any, right: Any) -> int:
    return (left > right) - (left < right)


class BigInt(int):
    def Int64(self) -> int:
        return int(self)


class Uuid(str):
    def String(self) -> str:
        return str(self)


PACKAGES: dict[str, dict[str, Any]] = {
    "slices": {
        "Contains": contains,
        "ContainsFunc": lambda items, test: index_func(items, test) >= 0,
        "IndexFunc": index_func,
        "Index": lambda items, item: index_func(items, lambda each: each == item),
        "SortFunc": sort_by,
        "Sort": lambda items: (items or []).sort(),
        "Clone": lambda items: None if items is None else [go.copied(each) for each in items],
    },
    "maps": {"Copy": lambda target, source: target.update(source or {}), "Clone": lambda m: go.GoMap(m.kind, m)},
    "cmp": {"Compare": compare},
    "math": {"Abs": abs, "Sqrt": math.sqrt, "Ceil": lambda x: float(math.ceil(x)), "MaxInt32": 2**31 - 1},
    "math/big": {"NewInt": BigInt},
    "crypto/rand": {"Reader": object(), "Int": lambda _reader, top: (BigInt(random.randrange(top)), None)},
    "reflect": {"DeepEqual": go.deep_equal, "ValueOf": Reflected},
    "k8s.io/apimachinery/pkg/util/sets": {"Set": Set, "New": Set, "List": sorted},
    "k8s.io/utils/ptr": {"To": pointer_to, "Deref": deref},
    "github.com/google/uuid": {"NewString": lambda: str(uuid.uuid4()), "New": lambda: Uuid(uuid.uuid4())},
}
