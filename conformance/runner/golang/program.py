"""Packages: where they come from, and what is replaced in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Mapping

from . import syntax as ast
from . import types as go
from .parse import parse_file
from .faults import GoError
from .scope import Lazy, Package, Scope
from .statements import Statements

#: Tests of the suite itself, and copies, which are made without them.
_UNREAD = ("_test.go", "zz_generated.deepcopy.go")
Natives = Mapping[str, Mapping[str, Any]]


class Program(Statements):
    """Reads Go packages from directories by import path. `natives` are packages in Python; `replaced` are functions
    and methods ("Type.Method") of read packages that Python takes over, by import path."""

    def __init__(self, roots: Mapping[str, Path], declarations: Path, natives: Natives, replaced: Natives) -> None:
        self.roots = roots
        self.declarations = declarations
        self.natives = natives
        self.replaced = replaced
        self.packages: dict[str, Package] = {}
        self.universe = Scope()
        self.universe.names.update(go.BASICS)
        self.universe.names.update({"nil": None, "true": True, "false": False, "comparable": go.BASICS["any"]})

    def load(self, path: str) -> Package:
        with Lazy.LOCK:
            return self.loaded(path)

    def loaded(self, path: str) -> Package:
        found = self.packages.get(path)
        if found is None:
            native = self.natives.get(path)
            found = Package(path, Scope(self.universe), native is not None)
            self.packages[path] = found
            sources = self.sources(path)
            if native is None and not sources:
                raise GoError(f"nothing stands for package {path}")
            found.scope.names.update(native or {})
            self.read(found, sources)
        return found

    def sources(self, path: str) -> list[Path]:
        for prefix, root in self.roots.items():
            if path == prefix or path.startswith(prefix + "/"):
                folder = root / path.removeprefix(prefix).lstrip("/")
                return sorted(f for f in folder.glob("*.go") if not f.name.endswith(_UNREAD))
        declared = self.declarations / (path.replace("/", "_") + ".go")
        return [declared] if declared.exists() else []

    def read(self, package: Package, sources: list[Path]) -> None:
        inits: list[Callable[[], Any]] = []
        methods: list[tuple[ast.FuncDecl, Scope]] = []
        for source in sources:
            file = parse_file(source.read_text(), str(source))
            scope = Scope(package.scope)
            for alias, path in file.imports:
                self.bind_import(scope, alias, path)
            # Generated code registers types with an API machinery that is not here.
            heeded = [] if source.name.startswith("zz_generated") else inits
            for node in file.declarations:
                self.declare_in(package, node, scope, heeded, methods)
        for node, scope in methods:
            self.add_method(package, node, scope)
        self.replace(package)
        for init in inits:
            init()

    def bind_import(self, scope: Scope, alias: str, path: str) -> None:
        name = alias or path.rsplit("/", 1)[-1].replace("-", "_")
        if alias == "." or name == "_":
            return

        def make() -> Package:
            scope.names[name] = self.load(path)
            return scope.names[name]

        scope.names[name] = Lazy(make)

    def declare_in(
        self,
        package: Package,
        node: ast.Node,
        scope: Scope,
        inits: list[Callable[[], Any]],
        methods: list[tuple[ast.FuncDecl, Scope]],
    ) -> None:
        names = package.scope.names
        if isinstance(node, ast.FuncDecl):
            if node.receiver is not None:
                methods.append((node, scope))
            elif node.body is not None:
                function = self.closure(node.type, node.body, scope, node.name)
                if node.name == "init":
                    inits.append(function)
                else:
                    names[node.name] = function
        elif isinstance(node, ast.TypeDecl):
            self.lazily(names, [node.name], lambda: [self.declared_type(node, scope)])
        elif isinstance(node, ast.VarDecl):
            self.lazily(names, node.names, lambda: self.initial(node, scope))

    @staticmethod
    def lazily(names: dict[str, Any], wanted: list[str], make: Callable[[], list[Any]]) -> None:
        def maker(at: int) -> Callable[[], Any]:
            def run() -> Any:
                for name, value in zip(wanted, make()):
                    if isinstance(names.get(name), Lazy) or name == "_":
                        names[name] = value
                return names[wanted[at]]

            return run

        for at, name in enumerate(wanted):
            names[name] = Lazy(maker(at))

    def add_method(self, package: Package, node: ast.FuncDecl, scope: Scope) -> None:
        receiver = node.receiver
        assert receiver is not None
        by_pointer = isinstance(receiver.type, ast.Star)
        base = receiver.type.operand if isinstance(receiver.type, ast.Star) else receiver.type
        base = base.base if isinstance(base, ast.Index) else base
        assert isinstance(base, ast.Name)
        kind = package.member(base.name)
        if isinstance(kind, (go.Struct, go.Named)) and node.body is not None:
            whole = ast.FuncType([receiver, *node.type.parameters], node.type.results)
            function = self.closure(whole, node.body, scope, f"{base.name}.{node.name}")
            kind.methods[node.name] = go.Method(by_pointer, function)

    def replace(self, package: Package) -> None:
        for name, function in self.replaced.get(package.path, {}).items():
            kind, _, method = name.partition(".")
            if method:
                package.member(kind).methods[method] = go.Method(True, function)
            else:
                package.scope.names[name] = function
