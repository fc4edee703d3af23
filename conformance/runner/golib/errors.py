"""Error values, and packages errors and fmt."""

from __future__ import annotations

from typing import Any, Optional

from .format import sprint, sprintf, sprintln


class Error:
    """Any error. `kind` tells apart those that callers ask about, such as a missing object."""

    def __init__(self, text: str, wrapped: Optional[list[Any]] = None, kind: str = "") -> None:
        self.text = text
        self.wrapped = wrapped or []
        self.kind = kind

    def Error(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Error({self.text!r})"


EOF = Error("EOF", kind="eof")
UNEXPECTED_EOF = Error("unexpected EOF", kind="eof")
NOT_EXIST = Error("file does not exist", kind="missing file")


def errorf(pattern: str, *arguments: Any) -> Error:
    return Error(sprintf(pattern, *arguments), [each for each in arguments if isinstance(each, Error)])


def chain(error: Any) -> list[Any]:
    if error is None:
        return []
    return [error] + [deeper for each in getattr(error, "wrapped", []) for deeper in chain(each)]


def is_error(error: Any, wanted: Any) -> bool:
    return any(each is wanted for each in chain(error))


def as_error(error: Any, target: Any) -> bool:
    kind = type(target.get()) if hasattr(target, "get") else None
    for each in chain(error):
        if kind is not None and kind is not type(None) and isinstance(each, kind):
            target.set(each)
            return True
    return False


def join(*errors: Any) -> Optional[Error]:
    kept = [each for each in errors if each is not None]
    return Error("\n".join(each.Error() for each in kept), kept) if kept else None


def has_kind(kind: str) -> Any:
    return lambda error: any(getattr(each, "kind", "") == kind for each in chain(error))


def fprintf(writer: Any, pattern: str, *arguments: Any) -> tuple[int, Any]:
    return writer.Write(sprintf(pattern, *arguments).encode())  # type: ignore[no-any-return]


def fprint(writer: Any, *arguments: Any) -> tuple[int, Any]:
    return writer.Write(sprint(*arguments).encode())  # type: ignore[no-any-return]


PACKAGES: dict[str, dict[str, Any]] = {
    "errors": {"New": Error, "Is": is_error, "As": as_error, "Join": join},
    "fmt": {
        "Errorf": errorf, "Sprintf": sprintf, "Sprint": sprint, "Sprintln": sprintln, "Fprintf": fprintf,
        "Fprint": fprint, "Printf": lambda *_: (0, None), "Println": lambda *_: (0, None),
    },
    "io": {"EOF": EOF, "ErrUnexpectedEOF": UNEXPECTED_EOF},
    "io/fs": {"ErrNotExist": NOT_EXIST},
    "k8s.io/apimachinery/pkg/api/errors": {
        "IsNotFound": has_kind("not found"), "IsAlreadyExists": has_kind("already exists"),
        "IsInvalid": has_kind("invalid"),
    },
}
