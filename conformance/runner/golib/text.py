"""Packages strings, strconv, regexp, bytes and sort."""

from __future__ import annotations

import functools
import re
from typing import Any, Callable, Optional

from ..golang.statements import Sequence
from .errors import Error


class Builder:
    def __init__(self) -> None:
        self.data = b""

    def Write(self, data: bytes) -> tuple[int, None]:
        self.data += data
        return len(data), None

    def WriteString(self, text: str) -> tuple[int, None]:
        return self.Write(text.encode())

    def String(self) -> str:
        return self.data.decode()

    def Bytes(self) -> bytes:
        return self.data


class Regexp:
    def __init__(self, pattern: str) -> None:
        self.compiled = re.compile(pattern)

    def MatchString(self, text: str) -> bool:
        return self.compiled.search(text) is not None

    def FindStringSubmatch(self, text: str) -> Optional[list[str]]:
        found = self.compiled.search(text)
        return [found.group(0), *(group or "" for group in found.groups())] if found else None

    def FindAllStringSubmatch(self, text: str, _count: int) -> list[list[str]]:
        return [[m.group(0), *(group or "" for group in m.groups())] for m in self.compiled.finditer(text)]


def cut(text: str, separator: str) -> tuple[str, str, bool]:
    before, found, after = text.partition(separator)
    return before, after, bool(found)


def cut_prefix(text: str, prefix: str) -> tuple[str, bool]:
    return text.removeprefix(prefix), text.startswith(prefix)


def atoi(text: str) -> tuple[int, Optional[Error]]:
    try:
        return int(text), None
    except ValueError:
        return 0, Error(f'strconv.Atoi: parsing "{text}": invalid syntax')


def in_base(number: int, base: int) -> str:
    return str(number) if base == 10 else format(number, {2: "b", 8: "o", 16: "x"}[base])


def sort_by(items: Optional[list[Any]], compare: Callable[[Any, Any], int]) -> None:
    if items:
        items.sort(key=functools.cmp_to_key(compare))


def sort_slice(items: Optional[list[Any]], less: Callable[[int, int], bool]) -> None:
    """`less` reads the slice by number, so what is compared has to be in it."""
    for end in range(len(items or []), 1, -1):
        for at in range(end - 1):
            assert items is not None
            if less(at + 1, at):
                items[at], items[at + 1] = items[at + 1], items[at]


PACKAGES: dict[str, dict[str, Any]] = {
    "strings": {
        "Builder": Builder,
        "ToLower": str.lower, "ToUpper": str.upper,
        "Contains": lambda text, part: part in text,
        "HasPrefix": str.startswith, "HasSuffix": str.endswith,
        "TrimPrefix": str.removeprefix, "TrimSuffix": str.removesuffix, "TrimSpace": str.strip,
        "Trim": str.strip,
        "Join": lambda items, separator: separator.join(items or []),
        "Split": lambda text, separator: text.split(separator),
        "SplitSeq": lambda text, separator: Sequence(text.split(separator)),
        "SplitN": lambda text, separator, count: text.split(separator, count - 1),
        "Replace": lambda text, old, new, count: text.replace(old, new, count),
        "ReplaceAll": lambda text, old, new: text.replace(old, new),
        "Repeat": lambda text, count: text * count,
        "Cut": cut, "CutPrefix": cut_prefix,
        "EqualFold": lambda left, right: left.lower() == right.lower(),
    },
    "strconv": {"Atoi": atoi, "Itoa": str, "FormatInt": in_base, "Quote": lambda text: f'"{text}"'},
    "regexp": {"MustCompile": Regexp, "QuoteMeta": re.escape, "Regexp": Regexp},
    "bytes": {"Buffer": Builder, "Equal": lambda left, right: (left or b"") == (right or b"")},
    "sort": {"Strings": lambda items: (items or []).sort(), "Slice": sort_slice},
}
