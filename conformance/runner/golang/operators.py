"""Operators on values."""

from __future__ import annotations

import operator
from typing import Any, Callable

from .faults import GoError

_PLAIN: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "<": operator.lt, "<=": operator.le,
    ">": operator.gt, ">=": operator.ge, "&": operator.and_, "|": operator.or_, "^": operator.xor,
    "<<": operator.lshift, ">>": operator.rshift,
}


def binary(op: str, left: Any, right: Any) -> Any:
    if op == "==":
        return equal(left, right)
    if op == "!=":
        return not equal(left, right)
    if op in ("/", "%"):
        return divide(op, left, right)
    try:
        return _PLAIN[op](left, right)
    except (KeyError, TypeError) as error:
        raise GoError(f"{left!r} {op} {right!r}") from error


def unary(op: str, operand: Any) -> Any:
    if op == "!":
        return not operand
    return {"-": operator.neg, "+": operator.pos, "^": operator.invert}[op](operand)


def equal(left: Any, right: Any) -> bool:
    if left is None or right is None:
        return left is right or is_nil(left) and is_nil(right)
    return bool(left == right)


def is_nil(value: Any) -> bool:
    return value is None


def divide(op: str, left: Any, right: Any) -> Any:
    if isinstance(left, float) or isinstance(right, float):
        return left / right
    quotient = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
    return quotient if op == "/" else left - right * quotient


__all__ = ["binary", "unary", "equal"]
