"""Splits Go source into tokens, with the semicolons that Go inserts at line ends."""

from __future__ import annotations

import re
from typing import NamedTuple


class Token(NamedTuple):
    """`kind` is one of name, int, float, string, char, op, eof; `text` of a string is its value."""

    kind: str
    text: str
    line: int


class GoSyntaxError(Exception):
    """The source uses something that this reader does not know."""


_PATTERN = re.compile(
    r"""(?P<space>[ \t\r]+)|(?P<newline>\n)|(?P<line>//[^\n]*)|(?P<block>/\*.*?\*/)
    |(?P<float>\d+\.\d*(?:[eE][+-]?\d+)?|\.\d+|\d+[eE][+-]?\d+)
    |(?P<int>0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+|\d[\d_]*)
    |(?P<name>[^\W\d]\w*)
    |(?P<raw>`[^`]*`)|(?P<string>"(?:\\.|[^"\\\n])*")|(?P<char>'(?:\\.|[^'\\\n])+')
    |(?P<op>\.\.\.|<<=|>>=|&\^=|&&|\|\||<-|\+\+|--|==|!=|<=|>=|:=|\+=|-=|\*=|/=|%=|&=|\|=|\^=|<<|>>|&\^
        |[-+*/%&|^<>=!()\[\]{},;.:~])""",
    re.VERBOSE | re.DOTALL,
)
_ENDS_STATEMENT = {"break", "continue", "fallthrough", "return"}
_KEYWORDS_THAT_DO_NOT = {
    "case", "chan", "const", "default", "defer", "else", "for", "func", "go", "goto", "if", "import",
    "interface", "map", "package", "range", "select", "struct", "switch", "type", "var",
}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'", "0": "\0"}


def tokenize(source: str) -> list[Token]:
    tokens: list[Token] = []
    line = 1
    at = 0
    while at < len(source):
        match = _PATTERN.match(source, at)
        if match is None:
            raise GoSyntaxError(f"line {line}: unexpected {source[at]!r}")
        at = match.end()
        kind = match.lastgroup or ""
        text = match.group()
        if kind in ("newline", "line", "block"):
            if "\n" in text and _ends_statement(tokens):
                tokens.append(Token("op", ";", line))
        elif kind == "raw":
            tokens.append(Token("string", text[1:-1], line))
        elif kind in ("string", "char"):
            tokens.append(Token(kind, _unescape(text[1:-1]), line))
        elif kind != "space":
            tokens.append(Token(kind, text, line))
        line += text.count("\n")
    if _ends_statement(tokens):
        tokens.append(Token("op", ";", line))
    tokens.append(Token("eof", "", line))
    return tokens


def _ends_statement(tokens: list[Token]) -> bool:
    if not tokens:
        return False
    last = tokens[-1]
    if last.kind == "op":
        return last.text in (")", "]", "}", "++", "--")
    return last.text in _ENDS_STATEMENT or last.kind != "name" or last.text not in _KEYWORDS_THAT_DO_NOT


def _unescape(text: str) -> str:
    def replace(match: re.Match[str]) -> str:
        code = match.group(1)
        if code[0] in "xuU":
            return chr(int(code[1:], 16))
        return _ESCAPES[code]

    return re.sub(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", replace, text)
