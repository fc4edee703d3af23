"""Reads expressions and types."""

from __future__ import annotations

from typing import Optional

from . import syntax as ast
from .tokens import GoSyntaxError, Token

_PRECEDENCE = {
    "||": 1, "&&": 2, "==": 3, "!=": 3, "<": 3, "<=": 3, ">": 3, ">=": 3,
    "+": 4, "-": 4, "|": 4, "^": 4, "*": 5, "/": 5, "%": 5, "<<": 5, ">>": 5, "&": 5, "&^": 5,
}


class ExprParser:
    """A cursor over tokens. A composite literal is not read in the head of a statement, where `{` opens its body."""

    def __init__(self, tokens: list[Token], path: str) -> None:
        self.tokens = tokens
        self.path = path
        self.at = 0
        self.in_head = False

    # Cursor -----------------------------------------------------------------------------------------------------------

    @property
    def token(self) -> Token:
        return self.tokens[self.at]

    def fail(self, wanted: str) -> GoSyntaxError:
        return GoSyntaxError(f"{self.path}:{self.token.line}: wanted {wanted}, found {self.token.text!r}")

    def is_op(self, *texts: str) -> bool:
        return self.token.kind == "op" and self.token.text in texts

    def is_word(self, *texts: str) -> bool:
        return self.token.kind == "name" and self.token.text in texts

    def take(self) -> Token:
        token = self.token
        self.at += 1
        return token

    def accept(self, text: str) -> bool:
        if self.token.kind in ("op", "name") and self.token.text == text:
            self.at += 1
            return True
        return False

    def expect(self, text: str) -> Token:
        if self.token.kind not in ("op", "name") or self.token.text != text:
            raise self.fail(repr(text))
        return self.take()

    def name(self) -> str:
        if self.token.kind != "name":
            raise self.fail("a name")
        return self.take().text

    # Expressions ------------------------------------------------------------------------------------------------------

    def expr(self, least: int = 1) -> ast.Expr:
        left = self.unary()
        while self.token.kind == "op" and _PRECEDENCE.get(self.token.text, 0) >= least:
            op = self.take()
            right = self.expr(_PRECEDENCE[op.text] + 1)
            left = self.at_line(ast.Binary(op.text, left, right), op.line)
        return left

    def exprs(self) -> list[ast.Expr]:
        found = [self.expr()]
        while self.accept(","):
            found.append(self.expr())
        return found

    @staticmethod
    def at_line(node: ast.Node, line: int) -> ast.Node:
        node.line = line
        return node

    def unary(self) -> ast.Expr:
        line = self.token.line
        if self.is_op("<-") and self.tokens[self.at + 1].text == "chan":
            return self.primary()
        if self.is_op("+", "-", "!", "^", "&", "<-"):
            op = self.take().text
            return self.at_line(ast.Unary(op, self.unary()), line)
        if self.accept("*"):
            return self.at_line(ast.Star(self.unary()), line)
        return self.primary()

    def primary(self) -> ast.Expr:
        line = self.token.line
        node = self.operand()
        while True:
            if self.accept("."):
                node = self.after_dot(node)
            elif self.is_op("("):
                node = self.call(node)
            elif self.is_op("["):
                node = self.index(node)
            elif self.is_op("{") and self.may_be_composite(node):
                node = self.composite(node)
            else:
                return node
            node.line = line

    def after_dot(self, base: ast.Expr) -> ast.Expr:
        if self.accept("("):
            kind = None if self.accept("type") else self.type()
            self.expect(")")
            return ast.Assert(base, kind)
        return ast.Select(base, self.name())

    def operand(self) -> ast.Expr:
        token = self.token
        if token.kind in ("string", "char"):
            self.take()
            text = token.text
            return ast.Literal(text if token.kind == "string" else ord(text))
        if token.kind == "int":
            self.take()
            return ast.Literal(int(token.text.replace("_", ""), 0))
        if token.kind == "float":
            self.take()
            return ast.Literal(float(token.text))
        if self.accept("("):
            outer, self.in_head = self.in_head, False
            inside = self.expr_or_type()
            self.in_head = outer
            self.expect(")")
            return inside
        if self.is_word("func"):
            self.take()
            kind = self.signature()
            return ast.FuncLit(kind, self.braced_body()) if self.is_op("{") else kind
        if self.is_op("[", "*") or self.is_op("<-") or self.is_word("map", "struct", "chan", "interface"):
            return self.type()
        return self.at_line(ast.Name(self.name()), token.line)

    def braced_body(self) -> ast.Block:
        raise NotImplementedError

    def expr_or_type(self) -> ast.Expr:
        return self.expr()

    def call(self, function: ast.Expr) -> ast.Expr:
        self.expect("(")
        outer, self.in_head = self.in_head, False
        arguments: list[ast.Expr] = []
        spread = False
        while not self.is_op(")"):
            arguments.append(self.expr_or_type())
            spread = self.accept("...") or spread
            if not self.accept(","):
                break
        self.in_head = outer
        self.expect(")")
        return ast.Call(function, arguments, spread)

    def index(self, base: ast.Expr) -> ast.Expr:
        self.expect("[")
        outer, self.in_head = self.in_head, False
        low: Optional[ast.Expr] = None if self.is_op(":") else self.expr_or_type()
        if self.accept(":"):
            high = None if self.is_op("]") else self.expr()
            node: ast.Expr = ast.Slice(base, low, high)
        else:
            assert low is not None
            indices = [low]
            while self.accept(",") and not self.is_op("]"):
                indices.append(self.type())
            node = ast.Index(base, indices)
        self.in_head = outer
        self.expect("]")
        return node

    # Composite literals -----------------------------------------------------------------------------------------------

    def may_be_composite(self, node: ast.Expr) -> bool:
        if isinstance(node, (ast.ListType, ast.MapType, ast.StructType)):
            return True
        if self.in_head:
            return False
        if isinstance(node, ast.Index):
            return isinstance(node.base, (ast.Name, ast.Select))
        return isinstance(node, ast.Name) or (isinstance(node, ast.Select) and isinstance(node.base, ast.Name))

    def composite(self, kind: Optional[ast.Expr]) -> ast.Expr:
        line = self.expect("{").line
        outer, self.in_head = self.in_head, False
        elements: list[tuple[Optional[ast.Expr], ast.Expr]] = []
        while not self.is_op("}"):
            first = self.element()
            if self.accept(":"):
                elements.append((first, self.element()))
            else:
                elements.append((None, first))
            if not self.accept(","):
                break
        self.in_head = outer
        self.expect("}")
        return self.at_line(ast.Composite(kind, elements), line)

    def element(self) -> ast.Expr:
        return self.composite(None) if self.is_op("{") else self.expr()

    # Types ------------------------------------------------------------------------------------------------------------

    def type(self) -> ast.Expr:
        if self.accept("*"):
            return ast.Star(self.type())
        if self.accept("["):
            if not self.is_op("]"):
                self.expr()
            self.expect("]")
            return ast.ListType(self.type())
        if self.accept("<-"):
            self.expect("chan")
            return ast.ChanType(self.type())
        if self.accept("("):
            inside = self.type()
            self.expect(")")
            return inside
        word = self.name()
        if word == "map":
            self.expect("[")
            key = self.type()
            self.expect("]")
            return ast.MapType(key, self.type())
        if word == "chan":
            self.accept("<-")
            return ast.ChanType(self.type())
        if word == "func":
            return self.signature()
        if word == "struct":
            return self.struct()
        if word == "interface":
            return self.interface()
        node: ast.Expr = ast.Name(word)
        if self.accept("."):
            node = ast.Select(node, self.name())
        if self.is_op("[") and self.tokens[self.at + 1].text != "]":
            node = self.index(node)
        return node

    def signature(self) -> ast.FuncType:
        parameters = self.parameters()
        results: list[ast.Field] = []
        if self.is_op("("):
            results = self.parameters()
        elif self.starts_type():
            results = [ast.Field([], self.type())]
        return ast.FuncType(parameters, results)

    def starts_type(self) -> bool:
        if self.token.kind == "name":
            return self.token.text not in ("range", "else", "case", "default")
        return self.is_op("*", "[", "<-") and not self.is_op("{")

    def parameters(self) -> list[ast.Field]:
        """Go allows names to be left out; whether they are is known only at the end."""
        self.expect("(")
        entries: list[tuple[Optional[str], ast.Expr, bool]] = []
        while not self.is_op(")"):
            variadic = self.accept("...")
            first = self.type()
            if isinstance(first, ast.Name) and not variadic and not self.is_op(",", ")"):
                variadic = self.accept("...")
                entries.append((first.name, self.type(), variadic))
            else:
                entries.append((None, first, variadic))
            if not self.accept(","):
                break
        self.expect(")")
        return _fields(entries)

    def struct(self) -> ast.StructType:
        self.expect("{")
        fields: list[ast.Field] = []
        while not self.is_op("}"):
            fields.append(self.struct_field())
            if not self.accept(";"):
                break
        self.expect("}")
        return ast.StructType(fields)

    def struct_field(self) -> ast.Field:
        embedded = self.is_op("*") or self.tokens[self.at + 1].text in (".", ";", "}") or (
            self.tokens[self.at + 1].kind == "string"
        )
        names: list[str] = []
        if not embedded:
            names.append(self.name())
            while self.accept(","):
                names.append(self.name())
        kind = self.type()
        tag = self.take().text if self.token.kind == "string" else ""
        return ast.Field(names, kind, tag, embedded)

    def interface(self) -> ast.InterfaceType:
        self.expect("{")
        methods: list[str] = []
        while not self.is_op("}"):
            if self.token.kind == "name" and self.tokens[self.at + 1].text == "(":
                methods.append(self.name())
                self.signature()
            else:
                while not self.is_op(";", "}"):
                    self.take()
            if not self.accept(";"):
                break
        self.expect("}")
        return ast.InterfaceType(methods)


def _fields(entries: list[tuple[Optional[str], ast.Expr, bool]]) -> list[ast.Field]:
    named = any(name is not None for name, _, _ in entries)
    if not named:
        return [ast.Field([], kind, variadic=variadic) for _, kind, variadic in entries]
    fields: list[ast.Field] = []
    waiting: list[str] = []
    for name, kind, variadic in entries:
        if name is None:
            assert isinstance(kind, ast.Name)
            waiting.append(kind.name)
            continue
        fields.append(ast.Field([*waiting, name], kind, variadic=variadic))
        waiting = []
    return fields
