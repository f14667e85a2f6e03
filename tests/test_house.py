"""How the house is kept: no circles of imports, short functions with few arguments, short files."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = sorted((ROOT / "sbi_flows").rglob("*.py"))
SOURCES = sorted(
    [*PACKAGE, *(path for top in ("simulators", "examples", "tests") for path in (ROOT / top).rglob("*.py"))]
)
MOST_LINES_OF_A_FILE, MOST_LINES, MOST_ARGUMENTS = 350, 60, 7
Function = ast.FunctionDef | ast.AsyncFunctionDef

# Public signatures that users write by keyword: each argument is one independent choice, and a record would
# only hide them.
LONG_SIGNATURES: dict[str, str] = {
    "baselines.methods.abc": "by which method, on what budget, and where it runs; as sf.fit and sf.simulate",
    "posterior.fit.fit": "three ways to say how many simulations, and what is said meanwhile",
    "baselines.rejection.rejection_abc": "three rules of acceptance, and what is compared and adjusted",
    "calibration.check.check": "on which pairs, how many, and what is tested besides",
    "comparison.compare.compare": "what is compared with what, and on how many draws",
    "posterior.posterior.refine": "by which method, how far, and where it runs; as sf.fit and sf.simulate",
    "comparison.study.study": "as compare, on how many data sets, and where scores are kept",
    "comparison.models.compare.compare_models": "which models, which simulations, what is known before",
    "problem.command.command_simulator": "the optional parts of a simulator, and those of a program",
    "simulation.engine.simulate": "what, how many, where, and what may go wrong",
    "simulation.simulations.from_arrays": "what the pairs are, and what they are called",
    "problem.simulator.simulator": "each part that may be known of a simulator, by its name",
}
LONG_FUNCTIONS: dict[str, str] = {}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in PACKAGE}


def imports(name: str) -> set[str]:
    """Modules of the package that this one imports anywhere: at the top, in a function, or for types only."""
    found: set[str] = set()
    for node in ast.walk(tree(MODULES[name])):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {
                f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in MODULES else node.module
                for alias in node.names
            }
    return (found & set(MODULES)) - {name}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The strongly connected parts of more than one module."""
    reach = {name: reachable(graph, name) for name in graph}
    parts = {tuple(sorted(other for other in reach[name] if name in reach[other])) for name in graph}
    return [list(part) for part in sorted(parts) if len(part) > 1]


def reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    seen, waiting = set(), [start]
    while waiting:
        for other in graph[waiting.pop()] - seen:
            seen.add(other)
            waiting.append(other)
    return seen


def functions() -> Iterator[tuple[str, Function]]:
    for path in PACKAGE:
        for node in ast.walk(tree(path)):
            if isinstance(node, Function):
                yield f"{module_name(path).removeprefix('sbi_flows.')}.{node.name}", node


def lines_of(node: Function) -> int:
    return (node.end_lineno or 0) - node.lineno + 1


def arguments_of(node: Function) -> int:
    """All that a caller can pass; self and cls are not passed."""
    given = [arg.arg for arg in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return len(given) - (given[:1] in (["self"], ["cls"]))


def test_a_circle_is_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a", "e"}, "e": set()}
    assert circles(graph) == [["b", "c"]]


def test_no_modules_import_one_another_in_a_circle() -> None:
    """Deferred imports and those for types count. The front door, which imports every public name, is no part
    of the house.
    """
    graph = {name: imports(name) - {"sbi_flows"} for name in MODULES if name != "sbi_flows"}
    assert circles(graph) == []


def test_no_file_is_longer_than_350_lines() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in SOURCES}
    assert {name: n for name, n in lengths.items() if n > MOST_LINES_OF_A_FILE} == {}


def test_functions_are_short() -> None:
    assert {
        name: lines_of(node)
        for name, node in functions()
        if lines_of(node) > MOST_LINES and name not in LONG_FUNCTIONS
    } == {}


def test_functions_take_few_arguments() -> None:
    found = {name: arguments_of(node) for name, node in functions() if arguments_of(node) > MOST_ARGUMENTS}
    assert {name: n for name, n in found.items() if name not in LONG_SIGNATURES} == {}


def test_exceptions_are_few_and_needed() -> None:
    """Each one is still too long, or takes too many arguments."""
    by_name = dict(functions())
    assert len(LONG_SIGNATURES) + len(LONG_FUNCTIONS) <= 12
    assert all(lines_of(by_name[name]) > MOST_LINES for name in LONG_FUNCTIONS)
    assert all(arguments_of(by_name[name]) > MOST_ARGUMENTS for name in LONG_SIGNATURES)
