"""Package fmt: verbs as far as messages and test names need them."""

from __future__ import annotations

import re
from typing import Any

from ..golang import types as go
from ..golang.members import bound_method

_VERB = re.compile(r"%([-+#0 ]*)(\d+)?(?:\.(\d+))?([a-zA-Z%])")


def display(value: Any, verb: str = "v") -> str:
    """`%v`."""
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (go.Ref, go.Value)):
        return display_struct(value)
    if isinstance(value, go.Cell):
        return display(value.get())
    if isinstance(value, bytes):
        return str(list(value))
    if isinstance(value, dict):
        entries = sorted((display(key), display(each)) for key, each in value.items())
        return "map[" + " ".join(f"{key}:{each}" for key, each in entries) + "]"
    if isinstance(value, (list, tuple, set)):
        return "[" + " ".join(display(each) for each in value) + "]"
    for method in ("Error", "String"):
        if hasattr(value, method):
            return str(getattr(value, method)())
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def display_struct(value: Any) -> str:
    target = value.get()  if isinstance(value, go.Ref) else value
    for method in ("Error", "String"):
        found = bound_method(target, method)
        if found is not None:
            return str(found())
    inner = " ".join(display(each) for each in target.fields.values())
    return ("&" if isinstance(value, go.Ref) else "") + "{" + inner + "}"


def quoted(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(quoted(each) for each in value) + "]"
    text = value.decode(errors="replace") if isinstance(value, bytes) else display(value)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def sprintf(pattern: str, *arguments: Any) -> str:
    rest = list(arguments)

    def replace(match: re.Match[str]) -> str:
        flags, width, precision, verb = match.groups()
        if verb == "%":
            return "%"
        if not rest:
            return f"%!{verb}(MISSING)"
        text = one(verb, rest.pop(0), int(precision) if precision else None)
        if width:
            text = text.ljust(int(width)) if "-" in flags else text.rjust(int(width), "0" if "0" in flags else " ")
        return text

    return _VERB.sub(replace, pattern)


def one(verb: str, value: Any, precision: int | None) -> str:
    if isinstance(value, go.Cell) and verb not in "vp":
        value = value.get()
    if verb == "q":
        return quoted(value)
    if verb == "d" and isinstance(value, int):
        return str(int(value))
    if verb == "f":
        return f"{float(value):.{6 if precision is None else precision}f}"
    if verb == "x":
        return value.hex() if isinstance(value, bytes) else f"{value:x}"
    if verb == "T":
        return type(value).__name__
    if verb == "s" and isinstance(value, bytes):
        return value.decode(errors="replace")
    return display(value)


def sprint(*arguments: Any) -> str:
    """Spaces only between operands of which neither is a string."""
    out = ""
    for at, value in enumerate(arguments):
        if at and not isinstance(value, str) and not isinstance(arguments[at - 1], str):
            out += " "
        out += display(value)
    return out


def sprintln(*arguments: Any) -> str:
    return " ".join(display(each) for each in arguments) + "\n"
