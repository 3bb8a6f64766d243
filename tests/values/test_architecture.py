"""Who may import whom, read from the code itself (ARCHITECTURE.md, "Who may import whom")."""

from __future__ import annotations

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "wire": set[str](),
    "tunnel": {"wire"},
    "movement": {"wire"},
    "runtime": {"tunnel", "wire"},
    "mn_agent": {"movement", "runtime", "tunnel", "wire"},
    "home_agent": {"runtime", "tunnel", "wire"},
    "cli": {"runtime", "tunnel", "lab", "mn_agent", "home_agent"},
    "lab": {"wire", "tunnel", "movement", "runtime", "mn_agent", "home_agent", "cli"},
    "benchmarks": {"wire", "tunnel", "runtime", "lab"},
}
DAEMONS = ("wire", "tunnel", "movement", "runtime", "mn_agent", "home_agent")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def _imports(path: Path, *, top_level: bool = False) -> set[str]:
    """Modules named by import statements; with `top_level` only those that run at import time."""
    tree = _tree(path)
    nodes = _outside_functions(tree) if top_level else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def _outside_functions(tree: ast.AST) -> list[ast.AST]:
    nodes: list[ast.AST] = []
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        nodes += [child, *_outside_functions(child)]
    return nodes


@cache
def _is_pure(path: Path) -> bool:
    """Pure: the package initialisers and every module whose docstring says so."""
    docstring = ast.get_docstring(_tree(path)) or ""
    return path.name == "__init__.py" or any(line.startswith("Pure") for line in docstring.splitlines())


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", MODULES, ids=_module)
def test_packages_import_only_what_the_architecture_allows(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    used = {name.split(".")[0] for name in _imports(path)} & set(PACKAGES)
    assert used - {package} <= PACKAGES[package]


@pytest.mark.parametrize("path", MODULES, ids=_module)
def test_a_module_says_whether_it_is_pure_and_a_pure_one_imports_no_io(path: Path) -> None:
    docstring = ast.get_docstring(_tree(path))
    assert docstring, "a module opens by saying what it is"
    if not _is_pure(path):
        assert "Performs I/O" in docstring
        return
    pure = {_module(p) for p in MODULES if _is_pure(p)}
    ours = {_module(p) for p in MODULES}
    assert (_imports(path, top_level=True) & ours) <= pure
    assert not _imports(path) & {"subprocess", "asyncio", "select", "pytun", "threading"}


@pytest.mark.parametrize("path", [p for p in MODULES if p.relative_to(ROOT).parts[0] in DAEMONS], ids=_module)
def test_scapy_rich_and_the_lab_stay_out_of_the_daemons(path: Path) -> None:
    assert not {name.split(".")[0] for name in _imports(path)} & {"scapy", "rich", "lab", "cli"}


@pytest.mark.parametrize("path", sorted((ROOT / "wire").rglob("*.py")), ids=_module)
def test_the_codec_needs_only_the_standard_library(path: Path) -> None:
    assert {name.split(".")[0] for name in _imports(path)} <= set(sys.stdlib_module_names) | {"wire"}


def test_there_is_no_circle_of_imports() -> None:
    graph = {_module(p): _imports(p, top_level=True) for p in MODULES}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail, module))
        if module in done:
            return
        for imported in graph.get(module, set()) & graph.keys():
            if imported != module:
                visit(imported, (*trail, module))
        done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("path", MODULES, ids=_module)
def test_no_file_swells(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 450
