"""The syntax tree of the part of Go that the suite is written in. Types are expressions, as in Go's own parser."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional


class Node:
    """Anything in the tree."""

    line: int = 0


Expr = Node
Stmt = Node


@dataclass
class Name(Node):
    name: str


@dataclass
class Literal(Node):
    value: Any


@dataclass
class Select(Node):
    base: Expr
    name: str


@dataclass
class Index(Node):
    base: Expr
    indices: list[Expr]


@dataclass
class Slice(Node):
    base: Expr
    low: Optional[Expr]
    high: Optional[Expr]


@dataclass
class Call(Node):
    function: Expr
    arguments: list[Expr]
    spread: bool


@dataclass
class Assert(Node):
    """`x.(T)`; `type` is None in a type switch."""

    base: Expr
    type: Optional[Expr]


@dataclass
class Unary(Node):
    op: str
    operand: Expr


@dataclass
class Binary(Node):
    op: str
    left: Expr
    right: Expr


@dataclass
class Star(Node):
    operand: Expr


@dataclass
class Composite(Node):
    """`type` is None where Go lets it be left out."""

    type: Optional[Expr]
    elements: list[tuple[Optional[Expr], Expr]]


@dataclass
class FuncLit(Node):
    type: "FuncType"
    body: "Block"


@dataclass
class ListType(Node):
    element: Expr


@dataclass
class MapType(Node):
    key: Expr
    value: Expr


@dataclass
class ChanType(Node):
    element: Expr


@dataclass
class Field(Node):
    names: list[str]
    type: Expr
    tag: str = ""
    embedded: bool = False
    variadic: bool = False


@dataclass
class FuncType(Node):
    parameters: list[Field]
    results: list[Field]


@dataclass
class StructType(Node):
    fields: list[Field]


@dataclass
class InterfaceType(Node):
    methods: list[str]


@dataclass
class Block(Node):
    statements: list[Stmt]


@dataclass
class ExprStmt(Node):
    expr: Expr


@dataclass
class Assign(Node):
    """`op` is "=", ":=" or an operator such as "+="."""

    targets: list[Expr]
    op: str
    values: list[Expr]


@dataclass
class Step(Node):
    target: Expr
    by: int


@dataclass
class Send(Node):
    channel: Expr
    value: Expr


@dataclass
class VarDecl(Node):
    names: list[str]
    type: Optional[Expr]
    values: list[Expr]
    iota: int = 0


@dataclass
class TypeDecl(Node):
    name: str
    type: Expr
    alias: bool
    parameters: list[str]


@dataclass
class DeclStmt(Node):
    declarations: list[Node]


@dataclass
class Return(Node):
    values: list[Expr]


@dataclass
class Branch(Node):
    """break, continue or fallthrough."""

    keyword: str
    label: str


@dataclass
class Deferred(Node):
    call: Expr


@dataclass
class GoStmt(Node):
    call: Expr


@dataclass
class If(Node):
    init: Optional[Stmt]
    condition: Expr
    then: Block
    otherwise: Optional[Stmt]


@dataclass
class For(Node):
    init: Optional[Stmt]
    condition: Optional[Expr]
    post: Optional[Stmt]
    body: Block
    label: str = ""


@dataclass
class Range(Node):
    key: Optional[Expr]
    value: Optional[Expr]
    define: bool
    over: Expr
    body: Block
    label: str = ""


@dataclass
class Case(Node):
    """No `matches` means default. In a select, `comm` is the communication."""

    matches: Optional[list[Expr]]
    body: list[Stmt]
    comm: Optional[Stmt] = None


@dataclass
class Switch(Node):
    init: Optional[Stmt]
    tag: Optional[Expr]
    cases: list[Case]
    label: str = ""


@dataclass
class TypeSwitch(Node):
    bind: str
    subject: Expr
    cases: list[Case]


@dataclass
class SelectStmt(Node):
    cases: list[Case]
    label: str = ""


@dataclass
class FuncDecl(Node):
    name: str
    receiver: Optional[Field]
    type: FuncType
    body: Optional[Block]


@dataclass
class File(Node):
    path: str
    package: str
    imports: list[tuple[str, str]] = field(default_factory=list)
    declarations: list[Node] = field(default_factory=list)
