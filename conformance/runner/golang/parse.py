"""Reads statements, declarations and files."""

from __future__ import annotations

from typing import Optional

from . import syntax as ast
from .parse_expr import ExprParser
from .tokens import tokenize

_ASSIGNS = ("=", ":=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "<<=", ">>=")


class Parser(ExprParser):
    def block(self) -> ast.Block:
        self.expect("{")
        body = self.statements()
        self.expect("}")
        return ast.Block(body)

    def braced_body(self) -> ast.Block:
        outer, self.in_head = self.in_head, False
        body = self.block()
        self.in_head = outer
        return body

    def statements(self) -> list[ast.Stmt]:
        found: list[ast.Stmt] = []
        while not self.is_op("}") and not self.is_word("case", "default"):
            if self.accept(";"):
                continue
            line = self.token.line
            statement = self.statement()
            statement.line = line
            found.append(statement)
            if not self.accept(";"):
                break
        return found

    def statement(self) -> ast.Stmt:
        if self.is_op("{"):
            return self.block()
        if self.token.kind == "name":
            reader = getattr(self, f"read_{self.token.text}", None)
            if reader is not None:
                return reader()
            if self.tokens[self.at + 1].text == ":" and self.tokens[self.at + 1].kind == "op":
                return self.labelled()
        return self.simple()

    def labelled(self) -> ast.Stmt:
        label = self.name()
        self.expect(":")
        self.accept(";")
        statement = self.statement()
        statement.label = label  # type: ignore[attr-defined]
        return statement

    def simple(self) -> ast.Stmt:
        line = self.token.line
        left = self.exprs()
        node: ast.Stmt
        if self.token.kind == "op" and self.token.text in _ASSIGNS:
            op = self.take().text
            if self.is_word("range"):
                return self.range_clause(left, op == ":=")
            node = ast.Assign(left, op, self.exprs())
        elif self.accept("++"):
            node = ast.Step(left[0], 1)
        elif self.accept("--"):
            node = ast.Step(left[0], -1)
        elif self.accept("<-"):
            node = ast.Send(left[0], self.expr())
        else:
            node = ast.ExprStmt(left[0])
        node.line = line
        return node

    def range_clause(self, left: list[ast.Expr], define: bool) -> ast.Range:
        self.expect("range")
        key = left[0] if left else None
        value = left[1] if len(left) > 1 else None
        return ast.Range(key, value, define, self.expr(), ast.Block([]))

    # One method for each keyword that starts a statement ---------------------------------------------------------------

    def read_var(self) -> ast.Stmt:
        return ast.DeclStmt(self.declaration())

    read_const = read_type = read_var

    def read_return(self) -> ast.Stmt:
        self.take()
        return ast.Return([] if self.is_op(";", "}") else self.exprs())

    def read_break(self) -> ast.Stmt:
        keyword = self.take().text
        return ast.Branch(keyword, self.name() if self.token.kind == "name" else "")

    read_continue = read_fallthrough = read_break

    def read_defer(self) -> ast.Stmt:
        self.take()
        return ast.Deferred(self.expr())

    def read_go(self) -> ast.Stmt:
        self.take()
        return ast.GoStmt(self.expr())

    def head(self) -> tuple[Optional[ast.Stmt], Optional[ast.Stmt]]:
        """`init; statement` before a body, both optional."""
        outer, self.in_head = self.in_head, True
        init: Optional[ast.Stmt] = None
        statement: Optional[ast.Stmt] = None
        if not self.is_op("{", ";"):
            statement = self.simple()
        if self.accept(";"):
            init, statement = statement, None
            if not self.is_op("{"):
                statement = self.simple()
        self.in_head = outer
        return init, statement

    def read_if(self) -> ast.Stmt:
        self.take()
        init, condition = self.head()
        assert isinstance(condition, ast.ExprStmt)
        then = self.block()
        otherwise: Optional[ast.Stmt] = None
        if self.accept("else"):
            otherwise = self.statement()
        return ast.If(init, condition.expr, then, otherwise)

    def read_for(self) -> ast.Stmt:
        self.take()
        outer, self.in_head = self.in_head, True
        loop = self.for_head()
        self.in_head = outer
        loop.body = self.block()
        return loop

    def for_head(self) -> ast.For | ast.Range:
        if self.is_op("{"):
            return ast.For(None, None, None, ast.Block([]))
        if self.is_word("range"):
            return self.range_clause([], False)
        first = None if self.is_op(";") else self.simple()
        if isinstance(first, ast.Range):
            return first
        if not self.accept(";"):
            assert isinstance(first, ast.ExprStmt)
            return ast.For(None, first.expr, None, ast.Block([]))
        condition = None if self.is_op(";") else self.expr()
        self.expect(";")
        post = None if self.is_op("{") else self.simple()
        return ast.For(first, condition, post, ast.Block([]))

    def read_switch(self) -> ast.Stmt:
        self.take()
        init, tag = self.head()
        if isinstance(tag, ast.Assign) and isinstance(tag.values[0], ast.Assert):
            assert isinstance(tag.targets[0], ast.Name)
            return ast.TypeSwitch(tag.targets[0].name, tag.values[0].base, self.cases(types=True))
        subject = tag.expr if isinstance(tag, ast.ExprStmt) else None
        if isinstance(subject, ast.Assert) and subject.type is None:
            return ast.TypeSwitch("", subject.base, self.cases(types=True))
        return ast.Switch(init, subject, self.cases())

    def cases(self, types: bool = False) -> list[ast.Case]:
        self.expect("{")
        found: list[ast.Case] = []
        while not self.is_op("}"):
            matches: Optional[list[ast.Expr]] = None
            if self.accept("case"):
                matches = [self.type()] if types else self.exprs()
                while types and self.accept(","):
                    matches.append(self.type())
            else:
                self.expect("default")
            self.expect(":")
            found.append(ast.Case(matches, self.statements()))
        self.expect("}")
        return found

    def read_select(self) -> ast.Stmt:
        self.take()
        self.expect("{")
        found: list[ast.Case] = []
        while not self.is_op("}"):
            comm: Optional[ast.Stmt] = None
            if self.accept("case"):
                comm = self.simple()
            else:
                self.expect("default")
            self.expect(":")
            found.append(ast.Case(None, self.statements(), comm))
        self.expect("}")
        return ast.SelectStmt(found)

    # Declarations -----------------------------------------------------------------------------------------------------

    def declaration(self) -> list[ast.Node]:
        keyword = self.take().text
        found: list[ast.Node] = []
        if not self.accept("("):
            return [self.spec(keyword, found)]
        while not self.is_op(")"):
            found.append(self.spec(keyword, found))
            if not self.accept(";"):
                break
        self.expect(")")
        return found

    def spec(self, keyword: str, before: list[ast.Node]) -> ast.Node:
        line = self.token.line
        node = self.type_spec() if keyword == "type" else self.value_spec(keyword, before)
        node.line = line
        return node

    def type_spec(self) -> ast.TypeDecl:
        name = self.name()
        parameters: list[str] = []
        if self.is_op("[") and self.tokens[self.at + 1].kind == "name":
            self.take()
            while not self.accept("]"):
                parameters.append(self.name())
                while not self.is_op(",", "]"):
                    self.take()
                self.accept(",")
        alias = self.accept("=")
        return ast.TypeDecl(name, self.type(), alias, parameters)

    def value_spec(self, keyword: str, before: list[ast.Node]) -> ast.VarDecl:
        names = [self.name()]
        while self.accept(","):
            names.append(self.name())
        kind = None if self.is_op("=", ";", ")") else self.type()
        values = self.exprs() if self.accept("=") else []
        if keyword == "const" and not values and before:
            last = before[-1]
            assert isinstance(last, ast.VarDecl)
            kind, values = last.type, last.values
        return ast.VarDecl(names, kind, values, len(before))

    def function(self) -> ast.FuncDecl:
        line = self.expect("func").line
        receiver: Optional[ast.Field] = None
        if self.is_op("("):
            receiver = self.parameters()[0]
        name = self.name()
        if self.accept("["):
            while not self.accept("]"):
                self.take()
        kind = self.signature()
        body = self.block() if self.is_op("{") else None
        node = ast.FuncDecl(name, receiver, kind, body)
        node.line = line
        return node

    def file(self) -> ast.File:
        self.expect("package")
        found = ast.File(self.path, self.name())
        self.accept(";")
        while self.is_word("import"):
            self.take()
            found.imports.extend(self.imports())
            self.accept(";")
        while self.token.kind != "eof":
            if self.accept(";"):
                continue
            if self.is_word("func"):
                found.declarations.append(self.function())
            else:
                found.declarations.extend(self.declaration())
        return found

    def imports(self) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        grouped = self.accept("(")
        while not self.is_op(")"):
            alias = ""
            if self.token.kind == "name" or self.is_op("."):
                alias = self.take().text
            found.append((alias, self.take().text))
            if not grouped:
                return found
            self.accept(";")
        self.expect(")")
        return found


def parse_file(source: str, path: str) -> ast.File:
    return Parser(tokenize(source), path).file()
